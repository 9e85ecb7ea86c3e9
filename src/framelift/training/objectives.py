"""Which objective trains a method's stage."""

from typing import Any

from framelift.config import from_mapping
from framelift.errors import UsageError
from framelift.methods.base import Objective
from framelift.training.settings import TrainSettings


def build_objective(settings: TrainSettings) -> Objective:
    """Build the components that a recipe names and the objective that trains them."""
    builders = {"image_ldm": _image_ldm, "stablevsr": _stablevsr, "vdm_vsr": _vdm_vsr}
    if settings.method not in builders:
        raise UsageError(
            f"There is no method {settings.method!r} to train.", f"Known: {', '.join(builders)}."
        )
    return builders[settings.method](settings)


def _image_ldm(settings: TrainSettings) -> Any:
    from framelift.methods.image_ldm import train as image_ldm
    from framelift.methods.load import load_pipeline

    _check_stage(settings, "denoiser", "few-step")
    own = from_mapping(image_ldm.ObjectiveSettings, settings.objective, "[objective]")
    if settings.stage == "few-step" and not (own.timesteps and own.on_policy):
        raise UsageError(
            "The few-step stage trains the sampler's own steps.", "Set timesteps and on_policy."
        )
    if settings.init_from:
        pipeline: Any = load_pipeline(settings.init_from)
        if own.timesteps:
            pipeline.register_to_config(timesteps=list(own.timesteps), steps=len(own.timesteps))
    else:
        pipeline = image_ldm.build_pipeline(settings.model, own.timesteps)
    return image_ldm.ImageLDMObjective(pipeline, own)


def _stablevsr(settings: TrainSettings) -> Any:
    from framelift.methods.load import load_pipeline
    from framelift.methods.stablevsr import train as stablevsr

    _check_stage(settings, "tcm", "few-step", "guidance-decoder")
    if settings.stage == "guidance-decoder":
        return _guidance_decoder(settings)
    own = from_mapping(stablevsr.ObjectiveSettings, settings.objective, "[objective]")
    if settings.stage == "few-step" and not own.on_policy:
        raise UsageError("The few-step stage samples by Algorithm 1.", "Set on_policy.")
    if settings.data.frames < 2:
        raise UsageError(
            "TCM is trained on neighbouring frames.", "Set [data] frames to 2 or more."
        )
    if not settings.init_from:
        raise UsageError(
            "TCM is trained on an image upscaler.", "Name its preset or folder as init_from."
        )
    pipeline: Any = load_pipeline(settings.init_from)
    if "controlnet" not in pipeline.components:
        pipeline = stablevsr.build_pipeline(pipeline, settings.model)
    return stablevsr.StableVSRObjective(pipeline, own)


def _guidance_decoder(settings: TrainSettings) -> Any:
    from framelift.methods.load import load_pipeline
    from framelift.methods.stablevsr import guidance_decoder
    from framelift.methods.stablevsr import train_guidance_decoder as objective

    own = from_mapping(objective.GuidanceDecoderSettings, settings.objective, "[objective]")
    pipeline: Any = load_pipeline(settings.init_from) if settings.init_from else None
    if "controlnet" not in getattr(pipeline, "components", {}):
        raise UsageError(
            "The small guidance decoder is distilled from a StableVSR.",
            "Name its preset or folder as init_from.",
        )
    if pipeline.guidance_decoder is None:
        wanted = settings.model.get("guidance_decoder", {})
        small = guidance_decoder.build_guidance_decoder(pipeline.latent_space, **wanted)
        pipeline.register_modules(guidance_decoder=small)
    return objective.GuidanceDecoderObjective(pipeline, own)


def _vdm_vsr(settings: TrainSettings) -> Any:
    from framelift.methods.load import load_pipeline
    from framelift.methods.vdm_vsr import train as vdm_vsr
    from framelift.methods.vdm_vsr import train_autoencoder as autoencoder
    from framelift.methods.vdm_vsr.linear_autoencoder import LinearAutoencoderKL

    _check_stage(settings, "autoencoder", "prior", "regression")
    if settings.stage == "regression":
        from framelift.methods.vdm_vsr import regression

        baseline = from_mapping(regression.RegressionSettings, settings.objective, "[objective]")
        return regression.RegressionObjective(regression.build_regression(settings.model), baseline)
    if settings.init_from:
        pipeline: Any = load_pipeline(settings.init_from)
    else:
        pipeline = vdm_vsr.build_pipeline(settings.model)
    if settings.stage == "autoencoder":
        if isinstance(pipeline.vae, LinearAutoencoderKL):
            raise UsageError(
                "A linear autoencoder is not trained.", "The stage prior fits it (fit_latents)."
            )
        own = from_mapping(autoencoder.AutoencoderSettings, settings.objective, "[objective]")
        return autoencoder.AutoencoderObjective(pipeline, own)
    own = from_mapping(vdm_vsr.PriorSettings, settings.objective, "[objective]")
    if pipeline.transformer is None:
        pipeline.register_modules(transformer=vdm_vsr.STDiT(**settings.model["transformer"]))
    return vdm_vsr.PriorObjective(pipeline, own)


def _check_stage(settings: TrainSettings, *stages: str) -> None:
    if settings.stage not in stages:
        raise UsageError(
            f"{settings.method} has no stage {settings.stage!r}.",
            f"Its stages are {' and '.join(stages)}.",
        )
