"""`framelift upscale` with a method that inverts a known degradation, on a tiny prior."""

import json

import av
import pytest

from framelift.cli.main import main
from framelift.errors import Exit


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["upscale", *map(str, words), "--threads", "1", "-q"])
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture
def small(clips):
    return clips("small.mp4", frames=6, size=(16, 24), audio=0.25)


def size_of(path) -> tuple[int, int, int]:
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        return stream.width, stream.height, sum(1 for _ in video.decode(stream))


@pytest.mark.parametrize("factor", [4, 8])
def test_factor_and_blur_are_the_operator(small, tiny_vdm_vsr, tmp_path, factor):
    output = tmp_path / "out.mp4"
    words = ["--preset", tiny_vdm_vsr, "--steps", 2, "--blur-sigma", 1.5]
    words += ["--downscale", factor] if factor != 4 else []
    assert run(small, "-o", output, *words) == Exit.OK
    assert size_of(output) == (24 * factor, 16 * factor, 6)
    record = json.loads((tmp_path / "out.mp4.json").read_text())
    own = record["settings"]["method_settings"]
    assert (own["downscale"], own["blur_sigma"], own["steps"]) == (factor, 1.5, 2)
    assert record["settings"]["tile"] == 32 // factor
    assert record["settings"]["tile_overlap"] == 4


def test_residual_is_reported(small, tiny_vdm_vsr, tmp_path):
    from framelift.engine.settings import UpscaleSettings
    from framelift.engine.upscale import upscale
    from framelift.methods.vdm_vsr.settings import VDMVSRSettings

    events = []
    settings, method = UpscaleSettings(preset=str(tiny_vdm_vsr)), VDMVSRSettings(steps=2)
    upscale(small, tmp_path / "out.mp4", settings, method=method, on_progress=events.append)
    assert any(event.note.startswith("residual ") for event in events)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--downscale", "0"], "downscale is 0"),
        (["--downscale", "3"], "no step size for a factor of 3"),
        (["--blur-sigma", "-1"], "blur_sigma is -1.0"),
        (["--norm", "cubed"], "cubed"),
    ],
)
def test_wrong_operators_are_refused(small, tiny_vdm_vsr, tmp_path, capsys, words, message):
    output = tmp_path / "out.mp4"
    assert run(small, "-o", output, "--preset", tiny_vdm_vsr, *words) == Exit.USAGE
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_other_methods_have_no_operator(small, tiny_pipeline, tmp_path, capsys):
    words = ["--preset", tiny_pipeline, "--blur-sigma", 2]
    assert run(small, "-o", tmp_path / "out.mp4", *words) == Exit.USAGE
    assert "--blur-sigma" in capsys.readouterr().err
