"""What is the user's own is neither replaced nor deleted."""

import os

import pytest

from framelift.engine.job import check_output, choose_method, record_path
from framelift.engine.journal import Journal, journal_folder
from framelift.engine.settings import UpscaleSettings
from framelift.errors import UsageError
from framelift.files import atomic, part_path, publish, remove_parts, write_json
from framelift.methods.stablevsr.settings import StableVSRSettings
from framelift.methods.vdm_vsr.settings import VDMVSRSettings


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"a video")
    return path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="runs where there are named pipes")
@pytest.mark.parametrize("overwrite", [False, True])
def test_pipes_and_devices_are_no_outputs(tmp_path, source, overwrite):
    os.mkfifo(tmp_path / "out.mp4")
    with pytest.raises(UsageError, match="device or a pipe"):
        check_output(source, tmp_path / "out.mp4", overwrite)


def test_a_users_json_is_in_the_way(tmp_path, source):
    output = tmp_path / "shots"
    record_path(output).write_text('{"mine": 1}')
    with pytest.raises(UsageError, match="in the way of the record"):
        check_output(source, output, overwrite=False)
    write_json(record_path(output), {"settings": {"versions": {"framelift": "0"}}})
    check_output(source, output, overwrite=False)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_users_folder_is_in_the_way(tmp_path, source, overwrite):
    folder = journal_folder(tmp_path / "out.mp4")
    folder.mkdir()
    check_output(source, tmp_path / "out.mp4", overwrite)
    (folder / "notes.txt").write_text("precious")
    with pytest.raises(UsageError, match="in the way of the notes"):
        check_output(source, tmp_path / "out.mp4", overwrite)


def test_what_appears_during_a_run_stays(tmp_path):
    final = tmp_path / "out.mp4"
    part = part_path(final)
    part.write_bytes(b"the result")
    final.write_bytes(b"the user's")
    with pytest.raises(FileExistsError):
        publish(part, final, replace=False)
    assert final.read_bytes() == b"the user's"
    final.unlink()
    publish(part, final, replace=False)
    assert final.read_bytes() == b"the result"
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_what_killed_runs_leave_is_found_by_name(tmp_path):
    final, other = tmp_path / ("o" * 90 + ".mp4"), tmp_path / ("o" * 91 + ".mp4")
    with atomic(other) as kept:
        kept.write_bytes(b"another output's")
        part_path(final).write_bytes(b"half")
        part_path(final).mkdir()
        remove_parts(final)
        assert list(tmp_path.iterdir()) == [kept]


def test_a_published_output_is_recognised_until_it_is_replaced(tmp_path, source):
    output = tmp_path / "out.mp4"
    with Journal(output) as journal:
        journal.open({"seed": 0}, restart=False)
        part = part_path(output)
        part.write_bytes(b"the result")
        journal.publishing(part, {"frames": 3})
        publish(part, output)
        assert journal.published() == {"frames": 3}
    check_output(source, output, overwrite=False)
    output.rename(tmp_path / "moved")
    output.write_bytes(b"the user's")
    with pytest.raises(UsageError, match="already exists"):
        check_output(source, output, overwrite=False)


def test_settings_choose_their_method():
    name, method, scale = choose_method(UpscaleSettings(), VDMVSRSettings(downscale=8))
    assert (name, method.downscale, scale) == ("vdm-vsr", 8, 8)
    assert choose_method(UpscaleSettings())[1] == StableVSRSettings()
    with pytest.raises(UsageError, match="StableVSRSettings, not VDMVSRSettings"):
        choose_method(UpscaleSettings(preset="stablevsr"), VDMVSRSettings())
