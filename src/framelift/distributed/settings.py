"""Where a library is upscaled: command line, Python API and record in one. No torch, no Ray."""

from dataclasses import dataclass

from framelift.errors import UsageError

MOST_WORKERS = 10_000


@dataclass(frozen=True)
class ClusterSettings:
    """Several devices or machines, by Ray (extra `cluster`)."""

    cluster: str | None = None
    """Upscale with several processes: on this machine (local), on the running Ray cluster, or else
    on this machine (auto), or on the cluster at HOST:PORT."""
    workers: int | None = None
    """Processes of the cluster, each with its own networks (default: one a GPU; without GPUs, one
    for every four cores)."""

    def __post_init__(self) -> None:
        if self.workers is not None and not 1 <= self.workers <= MOST_WORKERS:
            raise UsageError(f"--workers is {self.workers}.", f"Use 1 to {MOST_WORKERS:,}.")
        if self.workers is not None and self.cluster is None:
            raise UsageError(
                "--workers is given without --cluster.", "Add --cluster local, or an address."
            )
        known = self.cluster in (None, "auto", "local")
        if not known and not str(self.cluster).rpartition(":")[2].isdigit():
            raise UsageError(
                f"--cluster is {self.cluster!r}.", "Name auto, local, or an address as HOST:6379."
            )
