"""Nothing is computed twice, and what was interrupted goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from evaluation.clips import read_clip, write_frame

from framelift.cli.main import main
from framelift.engine.upscale import load_for
from framelift.errors import Exit, InputError, StoppedError, UsageError
from framelift.evaluation import prepare
from framelift.files import read_json

BOTH = {"degraded": 2, "upscaled": 2, "measured": 4}
NOTHING = {"degraded": 0, "upscaled": 0, "measured": 0}


def stamps(folder: Path) -> dict[Path, int]:
    kept = [p for name in ("cache", "frames", "pictures") for p in (folder / name).rglob("*")]
    return {path: path.stat().st_mtime_ns for path in kept}


def test_a_second_run_computes_nothing(tmp_path, run):
    first = run()
    before = stamps(tmp_path / "out")
    again = run()
    assert first.record["computed"] == BOTH
    assert again.record["computed"] == NOTHING
    assert again.values == first.values
    assert stamps(tmp_path / "out") == before


def test_only_what_changed_is_computed(data, run):
    first = run()
    border = run(options=("border=4",))
    assert border.record["computed"] == {**NOTHING, "measured": 4}
    assert border.values != first.values
    assert run(metrics=("psnr", "ssim", "we")).record["computed"] == {**NOTHING, "measured": 2}
    assert run(methods=("bicubic", "nearest")).record["computed"] == {
        **NOTHING, "upscaled": 2, "measured": 4
    }  # fmt: skip
    frame = data / "river/00000001.png"
    write_frame(frame, 255 - read_clip(data / "river")[1])
    changed = run()
    assert changed.record["computed"] == {"degraded": 1, "upscaled": 1, "measured": 2}
    assert changed.values["town"] == first.values["town"]
    assert run(frames=2).record["computed"] == BOTH


def test_the_same_content_under_another_name_is_known(data, run):
    run(root=data, clips=("river",))
    (data / "river").rename(data / "stream")
    assert run(clips=("stream",)).record["computed"]["measured"] == 0


def test_a_damaged_result_is_named(tmp_path, run):
    run()
    victim = next((tmp_path / "out/cache").rglob("*.json"))
    victim.write_text("{")
    with pytest.raises(InputError, match=victim.name):
        run()


def test_stopping_keeps_what_is_finished(run, tiny_pipeline):
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 11  # asked at every frame: bicubic on the second clip

    settings = {"methods": ("bicubic", str(tiny_pipeline))}
    with pytest.raises(StoppedError, match=r"[Ss]topped"):
        run(should_stop=stop, **settings)
    resumed = run(**settings)
    assert 0 < resumed.record["computed"]["upscaled"] < 4
    unbroken = run(output="unbroken", **settings)
    assert unbroken.record["computed"] == {"degraded": 2, "upscaled": 4, "measured": 8}
    assert resumed.values == unbroken.values


def test_a_degradation_is_stopped_between_frames(tmp_path, run):
    asked = iter([False, True])
    with pytest.raises(StoppedError, match="Stopped at river"):
        run(should_stop=lambda: next(asked))
    assert not list((tmp_path / "out/frames/river").iterdir())


def test_a_pipeline_is_loaded_once_for_all_clips(run, tiny_pipeline, monkeypatch):
    loads = []

    def load(*words, **options):
        loads.append(words)
        return load_for(*words, **options)

    monkeypatch.setattr(prepare, "load_for", load)
    run(methods=("bicubic", str(tiny_pipeline), f"{tiny_pipeline}:steps=2"))
    assert len(loads) == 2


def test_ctrl_c_and_the_same_command_again(tmp_path, data, tiny_pipeline, capsys):
    words = [
        *("evaluate", "--dataset", "folder", "--root", str(data), "-o", str(tmp_path / "out")),
        *("--methods", f"{tiny_pipeline}:steps=80,window=1,overlap=0", "--metrics", "psnr"),
        *("--clips", "river", "--device", "cpu", "--threads", "1"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "framelift", *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while not list((tmp_path / "out").glob("frames/*/*.framelift/000000.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == Exit.INTERRUPTED, err
    assert "same command again" in err
    assert not (tmp_path / "out/results.json").exists()
    with pytest.raises(SystemExit) as done:
        main(words)
    assert done.value.code == Exit.OK
    assert "continuing after" in capsys.readouterr().err
    computed = read_json(tmp_path / "out/results.json")["computed"]
    assert computed == {"degraded": 0, "upscaled": 1, "measured": 1}


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("bicubbic", "bicubic"),
        ("bicubic:steps=2", "no settings"),
        ("{tiny}:colour=red", "unknown setting 'colour'"),
        ("{tiny}:steps=many", "steps"),
    ],
)
def test_wrong_methods_are_refused_before_any_work(tmp_path, run, tiny_pipeline, method, message):
    with pytest.raises(UsageError, match=message):
        run(methods=(method.format(tiny=tiny_pipeline),))
    assert not (tmp_path / "out/frames").exists()


def test_settings_of_a_method_make_another_row(run, tiny_pipeline):
    words = (str(tiny_pipeline), f"{tiny_pipeline}:steps=1", f"{tiny_pipeline}:seed=3,eta=1.0")
    results = run(methods=words, clips=("river",), frames=2)
    assert results.methods == words
    assert len({results.mean(word, "psnr") for word in words}) == 3
