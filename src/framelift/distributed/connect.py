"""The connection to Ray, and how its devices are shared out among workers."""

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import current_thread, main_thread
from typing import Any

import psutil

from framelift.distributed.messages import Share
from framelift.distributed.settings import ClusterSettings
from framelift.engine.settings import UpscaleSettings
from framelift.errors import UsageError

OBJECT_STORE = 100 * 2**20  # bytes; plans pass through it, never frames
CORES_A_WORKER = 4  # without GPUs; more threads a window gain little
IN_FLIGHT = 2  # tasks in a worker: one computed, one read or written


@dataclass(frozen=True)
class Layout:
    """How many workers there are, and what each may use."""

    workers: int
    share: Share


@contextmanager
def connected(cluster: ClusterSettings, settings: UpscaleSettings) -> Iterator[Layout]:
    """Join or start a cluster for the time of a run; UsageError where that cannot be."""
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "Ray is not installed.", "Install the extra: pip install 'framelift[cluster]'"
        ) from error
    own = not ray.is_initialized()  # the caller's connection stays the caller's
    if own:
        _connect(cluster, settings)
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        yield layout(nodes, cluster.workers, settings)
    finally:
        if own:
            ray.shutdown()


def _connect(cluster: ClusterSettings, settings: UpscaleSettings) -> None:
    import ray

    handlers = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = _running() or "local" if cluster.cluster == "auto" else str(cluster.cluster)
    try:
        if address == "local":
            cores = max(_cores(), (cluster.workers or 1) * (settings.threads or 1))
            ray.init(
                address="local",
                num_cpus=cores,
                object_store_memory=OBJECT_STORE,
                include_dashboard=False,
                **quiet,
            )
        else:
            _reach(address)
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
        raise UsageError(
            f"No Ray cluster answers at {address}: {str(error).splitlines()[0][:200]}",
            "Start one with `ray start --head`, or pass --cluster local.",
        ) from error
    finally:
        for kind, handler in handlers.items():
            if handler is not None and current_thread() is main_thread():
                signal.signal(kind, handler)


def _reach(address: str) -> None:
    """ConnectionError at once where nothing listens: Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _running() -> str | None:
    """The cluster that RAY_ADDRESS or a `ray start` on this machine name, if it answers."""
    from ray._private.services import get_ray_address_from_environment

    nothing: Any = None  # annotated as str there, None is meant
    address: str | None = get_ray_address_from_environment(nothing, nothing)
    try:
        if address is not None:
            _reach(address)
    except OSError:
        return None
    return address


def _cores() -> int:
    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else os.cpu_count() or 1


def layout(nodes: list[dict[str, float]], workers: int | None, settings: UpscaleSettings) -> Layout:
    """Workers by device: one a GPU, or CPU threads shared out. `nodes` are their resources."""
    wants_cpu = settings.device == "cpu"
    gpus = 0 if wants_cpu else int(sum(node.get("GPU", 0) for node in nodes))
    if settings.device.startswith("cuda") and not gpus:
        raise UsageError("The cluster has no GPU.", "Use --device cpu, or add a machine with one.")
    if gpus:
        with_gpu = [node for node in nodes if node.get("GPU", 0)]
        each = min(int(node.get("CPU", 1) // node["GPU"]) for node in with_gpu)
        threads = settings.threads or max(1, each)
        return Layout(workers or gpus, Share(threads, 1.0, gpu=True))
    cores = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1] or [1]
    shared = sum(cores) // workers if workers else CORES_A_WORKER
    threads = settings.threads or max(1, min(shared, max(cores)))
    count = workers or max(1, sum(n // threads for n in cores))
    together = max(1, min(count, max(cores) // threads))
    return Layout(count, Share(threads, 1 / together))
