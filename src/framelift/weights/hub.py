"""Repositories of the Hugging Face hub: mirrors of them, the local cache, downloads. No torch."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from framelift.errors import Exit, FrameliftError

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")


class WeightsError(FrameliftError):
    """Weights are missing, damaged, or not those that the preset names."""

    exit_code = Exit.BAD_INPUT


def find_mirror(source: str, weights_dir: Path | None, inside: str = "") -> Path | None:
    """A copy of a repository in `weights_dir`, as <org>--<name> or <org>/<name>.

    `inside` is what it must hold to count.
    """
    if weights_dir is None:
        return None
    for name in (source.replace("/", "--"), source):
        if (weights_dir / name / inside).exists():
            return weights_dir / name
    return None


def fetch(source: str, revision: str, patterns: Sequence[str]) -> Path:
    """A folder with those files of a repository, at a commit (empty: the newest).

    What is in the cache is not downloaded again; with HF_HUB_OFFLINE nothing is. The folder's name
    is the commit. WeightsError where that fails.
    """
    from huggingface_hub import errors, snapshot_download

    # The keyword wants a commit, so that a moved branch cannot change what is loaded.
    download: Callable[..., str] = snapshot_download
    try:
        found = download(
            source,
            revision=revision or None,
            allow_patterns=list(patterns),
            ignore_patterns=["*.fp16.*", "*.non_ema.*"],
        )
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise WeightsError(
            f"The hub does not show {source}@{revision or 'main'}.",
            "It may need a licence accepted on its page and a login (hf auth login).",
        ) from error
    except Exception as error:  # whatever network and cache may raise
        raise WeightsError(
            f"{source} is not on this machine and could not be downloaded "
            f"({type(error).__name__}).",
            how_to_get(source),
        ) from error
    return Path(found)


def how_to_get(source: str) -> str:
    """What to do where a repository is not on this machine."""
    return (
        f"Run once with a network connection and without HF_HUB_OFFLINE, or copy the repository "
        f"to {source.replace('/', '--')} in a folder and name that with --weights-dir."
    )
