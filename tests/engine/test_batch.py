"""A batch: what its inputs and outputs are, and that one cannot harm another."""

import os

import pytest
from support import make_video

from framelift.engine.batch import collect_inputs, plan_batch
from framelift.engine.job import record_path
from framelift.engine.settings import UpscaleSettings
from framelift.errors import InputError, UsageError
from framelift.files import write_json

SIZE = (16, 16)
RECORD = {"settings": {"versions": {"framelift": "0"}}}


def videos(folder, *names):
    folder.mkdir(exist_ok=True)
    return [make_video(folder / name, size=SIZE, frames=1) for name in names]


def names_of(items):
    return [item.output.name if item.output else None for item in items]


def finished(source, output):
    output.write_bytes(b"a result")
    write_json(record_path(output), RECORD | {"input": str(source)})


def test_equal_names_are_told_apart(tmp_path):
    sources = videos(tmp_path / "a", "clip.avi", "clip.mkv", "other.mkv")
    sources += videos(tmp_path / "b", "clip.mkv")
    items = plan_batch(sources, tmp_path / "out", UpscaleSettings(), 4)
    assert names_of(items) == [
        "clip_avi_4x.mkv", "clip_mkv_4x.mkv", "other_4x.mkv", "b_clip_mkv_4x.mkv"
    ]  # fmt: skip
    assert (tmp_path / "out").is_dir()


def test_results_of_the_same_folder_are_no_inputs(tmp_path):
    (source,) = videos(tmp_path / "v", "clip.mp4")
    (result,) = videos(tmp_path / "v", "clip_4x.mp4")
    assert collect_inputs([tmp_path / "v"]) == [source, result], "a user's own file by that name"
    write_json(record_path(result), RECORD | {"input": str(source)})
    assert collect_inputs([tmp_path / "v"]) == [source]
    assert collect_inputs([source, source, result]) == [source, result]


def test_what_is_finished_is_not_made_again(tmp_path):
    (source,) = videos(tmp_path / "v", "clip.mp4")
    output = tmp_path / "v" / "clip_4x.mp4"
    finished(source, output)
    (item,) = plan_batch([source], None, UpscaleSettings(), 4)
    assert item.done
    (again,) = plan_batch([source], None, UpscaleSettings(overwrite=True), 4)
    assert not again.done
    later = record_path(output).stat().st_mtime + 10
    os.utime(source, (later, later))
    (changed,) = plan_batch([source], None, UpscaleSettings(), 4)
    assert not changed.done, "the source is newer than the result"


def test_another_sources_result_is_not_taken_for_this_ones(tmp_path):
    (source,) = videos(tmp_path / "v", "clip.mp4")
    finished(tmp_path / "else.mp4", tmp_path / "v" / "clip_4x.mp4")
    (item,) = plan_batch([source], None, UpscaleSettings(), 4)
    assert not item.done


def test_a_bad_input_keeps_its_problem_to_itself(tmp_path):
    (good,) = videos(tmp_path / "v", "good.mp4")
    bad = tmp_path / "v" / "bad.mp4"
    bad.write_text("no video")
    items = plan_batch([bad, good], None, UpscaleSettings(), 4)
    assert isinstance(items[0].problem, InputError)
    assert items[1].problem is None


def test_a_file_cannot_hold_a_batch(tmp_path):
    sources = videos(tmp_path / "v", "a.mp4", "b.mp4")
    with pytest.raises(UsageError, match="cannot all become"):
        plan_batch(sources, sources[0], UpscaleSettings(), 4)
