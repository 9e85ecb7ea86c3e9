"""Weights that torchvision fetches itself: errors that say what is missing."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pickle import UnpicklingError

from framelift.errors import InputError, UsageError


@contextmanager
def torchvision_weights(what: str, file: str, otherwise: str) -> Iterator[None]:
    """Explain why `what`, whose weights are `file`, cannot be built in the body.

    torchvision looks into $TORCH_HOME/hub/checkpoints and downloads what is not there. UsageError
    where the libraries of the extra `eval` are missing, InputError where the weights are;
    `otherwise` ends the advice: what can be used instead.
    """
    try:
        with redirect_stdout(sys.stderr):  # where torch.hub says what it downloads
            yield
    except ImportError as error:
        raise UsageError(
            f"{what} needs torchvision and torchmetrics, which are not installed.",
            f'Install them with pip install "framelift[eval]", or {otherwise}.',
        ) from error
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:  # no network, damaged file
        raise InputError(
            f"{what} needs the weights {file}, which could not be loaded or downloaded "
            f"({type(error).__name__}).",
            f"Put the file into hub/checkpoints below TORCH_HOME, or {otherwise}.",
        ) from error
