"""SATeCo: spatial adaptation and temporal coherence in the decoders of a latent diffusion model."""

from framelift.methods.registry import Method

METHOD = Method(
    name="sateco",
    title="Latent diffusion whose decoders see the low-resolution video, in space and time",
    settings="framelift.methods.sateco.settings:SATeCoSettings",
    pipeline="framelift.methods.sateco.pipeline:SATeCoPipeline",
    stages={
        **dict.fromkeys(("base-vae", "base-unet"), "framelift.methods.sateco.train_base:build"),
        **dict.fromkeys(
            ("upscaler", "unet", "vae", "refiner"), "framelift.methods.sateco.train:build"
        ),
        "few-step": "framelift.methods.sateco.train_few_step:build",
    },
)
