"""A real Ray: the bits of a single process, whoever dies meanwhile."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from support import decoded, make_video

from framelift import upscale
from framelift.cli.main import main
from framelift.distributed import ClusterSettings
from framelift.distributed.library import upscale as upscale_library
from framelift.engine.journal import journal_folder
from framelift.engine.settings import UpscaleSettings
from framelift.engine.upscale import load_for
from framelift.errors import Exit, StoppedError, UsageError

pytest.importorskip("ray", reason="runs where the extra `cluster` is installed")
FRAMES = {"long.mp4": 22, "middle.mp4": 12, "short.mp4": 5}
SIZE = (32, 40)
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture(scope="module", autouse=True)
def environment():
    """What the processes of a cluster inherit; the loopback needs no token."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    for name, frames in FRAMES.items():
        make_video(folder / name, size=SIZE, frames=frames, audio=0.2)
    return folder


@pytest.fixture(scope="module")
def settings(tiny_pipeline):
    """Windows that share frames, so that tails pass between workers; several tiles."""
    return UpscaleSettings(
        preset=str(tiny_pipeline), window=4, overlap=2, tile=32, tile_overlap=8, threads=1
    )


@pytest.fixture(scope="module")
def expected(library, settings, tmp_path_factory):
    """What a single process makes of the library."""
    folder, pipeline = tmp_path_factory.mktemp("single"), load_for(settings)
    for name in FRAMES:
        upscale(library / name, folder / made(name), settings, pipeline=pipeline)
    return folder


def made(name: str) -> str:
    return name.replace(".mp4", "_4x.mp4")


def assert_same(folder: Path, expected: Path) -> None:
    for name in FRAMES:
        ours, theirs = decoded(folder / made(name)), decoded(expected / made(name))
        assert len(ours) == len(theirs) == FRAMES[name]
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True)), name
    left = [p.name for p in folder.iterdir() if p.name.startswith(".") or p.is_dir()]
    assert not left, "no journal, no lock, no mark is left"


def dying(folder: Path, deaths: int):
    """Loads the real pipeline; so many calls kill their process, and white pictures never work.

    A closure, because functions of a test module cannot be imported by a worker.
    """

    def make(settings, method):
        from framelift.engine.upscale import load_for

        pipeline = load_for(settings, method)
        kind = type(pipeline)

        def call(self, frames, **named):
            import signal

            if frames.mean() > 0.99:
                raise RuntimeError("too bright")
            for death in range(deaths):
                try:
                    os.close(os.open(folder / f"death-{death}", os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
            return kind.__call__(self, frames, **named)

        pipeline.__class__ = type(kind.__name__, (kind,), {"__call__": call})
        return pipeline

    return make


def test_two_workers_one_of_which_dies(library, settings, expected, tmp_path):
    """One video was begun by a single process, one cannot be read, one always fails."""
    (tmp_path / "deaths").mkdir()
    output, told = tmp_path / "out", []
    output.mkdir()
    stops = iter([False, True, True])
    with pytest.raises(StoppedError):
        upscale(
            library / "middle.mp4", output / made("middle.mp4"), settings,
            pipeline=load_for(settings), should_stop=lambda: next(stops),
        )  # fmt: skip
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    white = make_video(
        tmp_path / "white.mp4", size=SIZE, frames=5,
        picture=lambda index, size: np.full((*size, 3), 255, np.uint8),
    )  # fmt: skip
    states: dict[str, list[str]] = {}
    outcomes = upscale_library(
        [library, broken, white],
        output,
        settings,
        ClusterSettings("local", workers=2),
        make_pipeline=dying(tmp_path / "deaths", 1),
        on_change=lambda s: states.setdefault(s.source.name, []).append(s.state),
        on_message=told.append,
    )
    assert len(list((tmp_path / "deaths").iterdir())) == 1, "a worker has died"
    assert any("is lost" in text for text in told)
    assert any("middle.mp4: continuing after 2 frames" in text for text in told)
    by_name = {outcome.source.name: outcome for outcome in outcomes}
    assert by_name["broken.mp4"].exit_code == Exit.BAD_INPUT
    assert "has failed 3 times" in str(by_name["white.mp4"].error)
    assert "too bright" in str(by_name["white.mp4"].error)
    assert journal_folder(output / made("white.mp4")).is_dir(), "it can be continued"
    assert states["white.mp4"][0] == "waiting"
    assert states["white.mp4"][-1] == "failed"
    assert states["long.mp4"][-1] == "done"
    record = by_name["long.mp4"].record
    assert record is not None
    assert record["frames"] == FRAMES["long.mp4"]
    assert record["seconds"]["pipeline"] > 0
    for path in journal_folder(output / made("white.mp4")).iterdir():
        path.unlink()
    journal_folder(output / made("white.mp4")).rmdir()
    assert_same(output, expected)


def words_of(library: Path, settings: UpscaleSettings, output: Path) -> list[str]:
    names = ("window", "overlap", "tile", "tile_overlap", "threads", "preset")
    pairs = [(f"--{n.replace('_', '-')}", str(getattr(settings, n))) for n in names]
    return ["upscale", str(library), "-o", str(output), *(w for pair in pairs for w in pair)]


def test_three_workers_whose_driver_is_killed_and_one_process_goes_on(
    library, settings, expected, tmp_path, capsys
):
    output = tmp_path / "out"
    words = words_of(library, settings, output)
    more = ["--cluster", "local", "--workers", "3", "--json", "-q"]
    driver = subprocess.Popen(
        [sys.executable, "-m", "framelift", *words, *more], stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout is not None
    family, workers = [], []
    for line in driver.stdout:
        facts = json.loads(line)
        if facts.get("done", 0) >= 4:
            family = psutil.Process(driver.pid).children(recursive=True)
            workers = [process for process in family if process.name().startswith("ray::Worker")]
            break
    assert len(workers) == 3
    driver.kill()
    driver.wait()
    driver.stdout.close()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive, "the workers of a dead driver end"
    for agent in family:  # Ray's helpers take a minute longer
        with suppress(psutil.NoSuchProcess):
            agent.kill()
    assert list(output.glob("*.framelift/*[0-9].json"))
    with pytest.raises(SystemExit) as stop:
        main([*words, "-q"])
    assert stop.value.code == Exit.OK
    assert "damaged" not in capsys.readouterr().err
    for mark in output.glob(".framelift-cluster-*"):
        mark.unlink()
    assert_same(output, expected)


def start_node(*words: str) -> subprocess.Popen[bytes]:
    ray = Path(sys.executable).with_name("ray")
    common = ["--block", "--num-cpus", "1", "--object-store-memory", "80000000"]
    return subprocess.Popen(
        [ray, "start", *words, *common, "--disable-usage-stats", "--node-ip-address", "127.0.0.1"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that came from it, at once."""
    family = psutil.Process(process.pid).children(recursive=True)
    for member in [*family, psutil.Process(process.pid)]:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()


def test_two_machines_one_of_which_is_lost(library, settings, expected, tmp_path, capfd):
    """Through the command: the table's lines, lines of JSON, the exit code of the worst input."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    ray, output = Path(sys.executable).with_name("ray"), tmp_path / "out"
    head = start_node("--head", "--port", address.split(":")[1], "--include-dashboard", "false")
    check = [ray, "health-check", "--address", address]
    while subprocess.run(check, capture_output=True).returncode:
        assert head.poll() is None
        time.sleep(0.5)
    other = start_node("--address", address)
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")

    def lose_one() -> None:
        while len(list(output.glob("*.framelift/*[0-9].json"))) < 2 and other.poll() is None:
            time.sleep(0.02)
        kill_all(other)

    watcher = threading.Thread(target=lose_one)
    watcher.start()
    command, *words = words_of(library, settings, output)
    words = [command, str(broken), *words, "--cluster", address, "--workers", "2", "--json"]
    try:
        with pytest.raises(SystemExit) as stop:
            main(words)
    finally:
        for node in (other, head):
            if node.poll() is None:
                kill_all(node)
        watcher.join()
    assert stop.value.code == Exit.BAD_INPUT
    out, err = capfd.readouterr()
    assert "is lost" in err, "its worker had been at work"
    assert "3 of 4 videos are done" in err
    lines = [json.loads(line) for line in out.splitlines()]
    last = {Path(line["video"]).name: line for line in lines if "state" in line}
    assert {name: line["state"] for name, line in last.items()} == {
        **dict.fromkeys(FRAMES, "done"), "broken.mp4": "failed"
    }  # fmt: skip
    assert {n: last[n]["done"] for n in FRAMES} == FRAMES
    assert sum("record" in line for line in lines) == len(FRAMES)
    assert_same(output, expected)


def test_a_cluster_that_is_not_there(library, tmp_path):
    with pytest.raises(UsageError, match="No Ray cluster answers"):
        upscale_library([library], tmp_path / "out", None, ClusterSettings("127.0.0.1:1"))


def test_nothing_imports_ray_or_torch_unasked():
    program = (
        "import sys, framelift.cli.main, framelift.cli.cluster, framelift.distributed.library\n"
        "import framelift.distributed.driver\n"
        "assert not sys.modules.keys() & {'ray', 'torch'}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "2"], "without --cluster"),
        (["--cluster", "somewhere"], "auto, local, or an address"),
        (["--cluster", "local", "--workers", "0"], "--workers is 0"),
    ],
)
def test_wrong_words_are_refused(library, words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["upscale", str(library), *words])
    assert stop.value.code == Exit.USAGE
    assert message in capsys.readouterr().err
    assert {path.name for path in library.iterdir()} == set(FRAMES)
