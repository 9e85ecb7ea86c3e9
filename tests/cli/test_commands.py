"""The other commands, and what every command promises."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from framelift import __version__
from framelift.cli.main import _limit, main
from framelift.errors import Exit


@pytest.fixture
def run(capsys):
    def command(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(words)
        return stop.value.code, *capsys.readouterr()

    return command


def test_importing_and_asking_for_help_load_no_torch():
    code = (
        "import sys, framelift, framelift.cli.main as cli\n"
        "try: cli.main(['upscale', '--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "assert not {'torch', 'diffusers', 'av', 'cv2'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--color-fix" in done.stdout


def test_version(run):
    assert run("--version") == (Exit.OK, f"framelift {__version__}\n", "")


@pytest.mark.parametrize("words", [["upscael"], ["upscale", "--hieght", "3"], ["upscale"], []])
def test_wrong_words(run, words):
    code, _, err = run(*words)
    assert code == Exit.USAGE
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), Exit.NO_ROOM),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), Exit.NO_ROOM),
        (MemoryError(), Exit.NO_ROOM),
        (PermissionError(errno.EACCES, "Permission denied", "x.png"), Exit.BAD_INPUT),
    ],
)
def test_limits_of_the_machine_are_no_bugs(error, code):
    limit = _limit(error)
    assert limit is not None
    assert limit.exit_code == code
    assert limit.remedy
    assert _limit(ValueError("no space")) is None


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="runs on Linux, whose /dev/full is always full"
)
def test_a_full_disk_behind_standard_output():
    words = [sys.executable, "-m", "framelift", "data", "list"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
    assert "bug" not in done.stderr
    assert "The disk is full" in done.stderr
    assert done.returncode == Exit.NO_ROOM


def test_help_names_every_metric_and_protocol(run):
    from framelift.evaluation.protocols import PROTOCOLS
    from framelift.metrics.registry import metric_names

    _, out, _ = run("evaluate", "--help")
    for name in (*metric_names(), *PROTOCOLS):
        assert name in out


def test_presets(run):
    code, out, _ = run("presets")
    assert code == Exit.OK
    assert "(default)" in out
    found = {p["name"]: p for p in json.loads(run("presets", "--json")[1])}
    assert found["sd-x4-upscaler"]["licence"] == "CreativeML Open RAIL++-M"
    assert found["image-ldm"]["kind"] == "bundled"


def test_doctor(run):
    code, out, err = run("doctor", "--json")
    findings = json.loads(out)
    assert code == (Exit.BUG if findings["problems"] else Exit.OK), err
    assert "h264" in findings["encoders"]
    assert findings["packages"]["torch"].startswith("2.")
    assert "image-ldm" in findings["weights"]


def test_train_shows_its_settings_without_training(run, tmp_path):
    code, _, err = run(
        "train", "image_ldm_1_few_step", "--data", str(tmp_path), "--steps", "7", "--dry-run"
    )
    assert code == Exit.OK
    assert '"steps": 7' in err
    assert list(tmp_path.iterdir()) == []


def test_train_without_its_data(run, tmp_path):
    code, _, err = run(
        "train", "image_ldm_1_few_step", "--data", str(tmp_path), "-o", str(tmp_path / "run")
    )
    assert code == Exit.BAD_INPUT
    assert "--data" in err
    assert run("train", "no_such_recipe", "--data", str(tmp_path))[0] == Exit.BAD_INPUT
