"""Per-frame latent diffusion upscaler, the baseline of StableVSR."""

from framelift.methods.registry import Method

METHOD = Method(
    name="image-ldm",
    title="Per-frame latent diffusion upscaler, the baseline",
    settings="framelift.methods.image_ldm.settings:ImageLDMSettings",
    pipeline="framelift.methods.image_ldm.pipeline:ImageLDMPipeline",
    stages={
        "denoiser": "framelift.methods.image_ldm.train:build",
        "few-step": "framelift.methods.image_ldm.train:build",
    },
    aliases=("StableDiffusionUpscalePipeline",),
)
