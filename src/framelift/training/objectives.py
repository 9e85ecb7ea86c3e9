"""Which objective trains a method's stage."""

from framelift.errors import UsageError
from framelift.methods.base import Objective, StageRequest
from framelift.methods.load import load_pipeline
from framelift.methods.registry import find_method
from framelift.training.settings import TrainSettings


def build_objective(settings: TrainSettings) -> Objective:
    """Build the components that a recipe names and the objective that trains them."""
    method = find_method(settings.method)
    build = method.stage(settings.stage)
    request = StageRequest(
        stage=settings.stage,
        pipeline=load_pipeline(settings.init_from) if settings.init_from else None,
        model=settings.model,
        objective=settings.objective,
        frames=settings.data.frames,
    )
    try:
        return build(request)
    except (KeyError, TypeError, ValueError) as error:  # what networks raise for wrong arguments
        missing = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UsageError(
            f"{method.name}'s stage {settings.stage} cannot be built: {missing}.",
            "Correct [model] and [objective] of the recipe, or name a preset as init_from.",
        ) from error
