"""StableVSR: an image upscaler turned into a video upscaler by temporal texture guidance."""

from framelift.methods.registry import Method

METHOD = Method(
    name="stablevsr",
    title="Image upscaler with temporal texture guidance, sampled in both directions",
    settings="framelift.methods.stablevsr.settings:StableVSRSettings",
    pipeline="framelift.methods.stablevsr.pipeline:StableVSRPipeline",
    stages={
        "tcm": "framelift.methods.stablevsr.train:build",
        "few-step": "framelift.methods.stablevsr.train:build",
        "guidance-decoder": "framelift.methods.stablevsr.train_guidance_decoder:build",
    },
)
