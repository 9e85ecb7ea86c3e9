"""STCDiT: segment-wise reconstruction along camera motion, and a video DiT guided by anchors."""

from framelift.methods.registry import Method

METHOD = Method(
    name="stcdit",
    title="Video diffusion transformer guided by the first frames of motion-aware segments",
    settings="framelift.methods.stcdit.settings:STCDiTSettings",
    pipeline="framelift.methods.stcdit.pipeline:STCDiTPipeline",
    stages={
        "vae": "framelift.methods.stcdit.train_vae:build",
        "base": "framelift.methods.stcdit.train:build",
        "stcdit": "framelift.methods.stcdit.train:build",
    },
)
