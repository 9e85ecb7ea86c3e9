"""VDM-VSR: super-resolution as an inverse problem, with an unconditional video diffusion prior."""

from framelift.methods.registry import Method

METHOD = Method(
    name="vdm-vsr",
    title="Inverse problem, solved with an unconditional video diffusion prior",
    settings="framelift.methods.vdm_vsr.settings:VDMVSRSettings",
    pipeline="framelift.methods.vdm_vsr.pipeline:VDMVSRPipeline",
    stages={
        "autoencoder": "framelift.methods.vdm_vsr.train_autoencoder:build",
        "prior": "framelift.methods.vdm_vsr.train:build",
        "regression": "framelift.methods.vdm_vsr.regression:build",
    },
)
