"""The journal keeps what is finished, and nothing that is not."""

import pytest
import torch

from framelift.engine.journal import Journal, journal_folder
from framelift.errors import UsageError
from framelift.files import sha256, write_json
from framelift.video.write import Segment

SETTINGS = {"tile": 64, "seed": 0}


def commit(journal, window, tail=None):
    path = journal.segment_path(window, images=False)
    path.write_bytes(b"x" * (window + 1))
    journal.commit(window, Segment(path, [window], [1]), tail, tile=64)


def reopened(output):
    with Journal(output) as journal:
        journal.open(SETTINGS, restart=False)
        return journal


def test_finished_windows_come_back(tmp_path):
    output = tmp_path / "out.mp4"
    with Journal(output) as journal:
        journal.open(SETTINGS, restart=False)
        commit(journal, 0, torch.rand(2, 3, 4, 4))
        tail = torch.rand(2, 3, 4, 4)
        commit(journal, 1, tail)
    again = reopened(output)
    assert [d.segment.pts for d in again.done.values()] == [[0], [1]]
    assert torch.equal(again.tail(1), tail)
    assert len(list(journal_folder(output).glob("*.tail.safetensors"))) == 1


def test_a_segment_without_record_does_not_exist(tmp_path):
    output = tmp_path / "out.mp4"
    with Journal(output) as journal:
        journal.open(SETTINGS, restart=False)
        commit(journal, 0)
        journal.segment_path(1, images=False).write_bytes(b"half a segment")
    assert len(reopened(output).done) == 1


def test_a_lost_segment_goes_back_to_where_no_tail_is_needed(tmp_path):
    output = tmp_path / "out.mp4"
    with Journal(output) as journal:
        journal.open(SETTINGS, restart=False)
        commit(journal, 0)
        commit(journal, 1, torch.rand(1, 3, 4, 4))
        commit(journal, 2, torch.rand(1, 3, 4, 4))
        journal.segment_path(2, images=False).write_bytes(b"")
    assert len(reopened(output).done) == 1, "window 1's tail is gone, window 0 needs none"


def test_windows_are_finished_in_any_order(tmp_path):
    """A tail stays until the window that needs it is there; one without it is computed again."""
    output, tail = tmp_path / "out.mp4", torch.rand(1, 3, 4, 4)
    with Journal(output) as journal:
        journal.open(SETTINGS, restart=False)
        for window in (3, 0, 4):
            commit(journal, window, tail)
    again = reopened(output)
    assert sorted(again.done) == [0, 3, 4]
    assert torch.equal(again.tail(0), tail)
    assert torch.equal(again.tail(4), tail)
    assert again.tail(3) is None
    commit(again, 2, tail)
    assert sorted(reopened(output).done) == [0, 2, 3, 4]
    again.segment_path(3, images=False).unlink()
    assert sorted(reopened(output).done) == [0, 2, 4], "window 3 is redone from the tail of 2"


def test_other_settings_are_refused_by_name_until_restart(tmp_path):
    output = tmp_path / "out.mp4"
    with Journal(output) as journal:
        journal.open(SETTINGS, restart=False)
        commit(journal, 0)
    with Journal(output) as journal, pytest.raises(UsageError, match="seed was 0, is 1"):
        journal.open(SETTINGS | {"seed": 1}, restart=False)
    with Journal(output) as journal:
        journal.open(SETTINGS | {"seed": 1}, restart=True)
        assert journal.done == {}


def test_another_container_takes_over_the_windows_of_one_that_failed(tmp_path):
    source = tmp_path / "source.avi"
    source.write_bytes(b"a video")
    settings = SETTINGS | {"input": sha256(source)}
    failed, other = tmp_path / "out.mov", tmp_path / "out.mkv"
    with Journal(failed) as journal:
        journal.open(settings, restart=False)
        commit(journal, 0)
    with Journal(tmp_path / "different.mkv") as journal:
        assert journal.relative(source) is None
    with Journal(other) as journal, Journal(failed):
        assert journal.relative(source) == settings
        journal.open(settings, restart=False)
        assert journal.done == {}, "another process holds them"
        journal.discard()
    with Journal(other) as journal:
        assert journal.relative(source) == settings
        journal.open(settings | {"seed": 1}, restart=False)
        assert journal.done == {}, "they are of other settings"
        journal.discard()
    with Journal(other) as journal:
        assert journal.relative(source) == settings
        journal.open(settings, restart=False)
        assert [d.segment.pts for d in journal.done.values()] == [[0]]
        assert journal.done[0].segment.path.parent == journal_folder(other)
    assert not journal_folder(failed).exists()


def test_two_processes_do_not_write_one_output(tmp_path):
    with Journal(tmp_path / "out.mp4"), pytest.raises(UsageError, match="Another process"):
        Journal(tmp_path / "out.mp4").__enter__()
    assert list(tmp_path.iterdir()) == []


def damage(path):
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("name", ["000001.mkv", "000001.json", "000001.tail.safetensors"])
def test_what_the_disk_has_lost_is_computed_again(tmp_path, name):
    output, told = tmp_path / "out.mp4", []
    with Journal(output) as journal:
        journal.open(SETTINGS, restart=False)
        commit(journal, 0)
        commit(journal, 1, torch.rand(1, 3, 4, 4))
        damage(journal.folder / name)
    with Journal(output) as journal:
        journal.open(SETTINGS, restart=False, warn=told.append)
        assert len(journal.done) == 1
    assert "computed again" in told[0]


@pytest.mark.parametrize("content", [b"", b"\0\0\0", b"[1, 2]", b"\xff\xfe", b'{"settings": '])
def test_damaged_settings_are_thrown_away_on_request_only(tmp_path, content):
    output = tmp_path / "out.mp4"
    journal_folder(output).mkdir()
    (journal_folder(output) / "settings.json").write_bytes(content)
    with Journal(output) as journal, pytest.raises(UsageError, match="damaged"):
        journal.open(SETTINGS, restart=False)
    with Journal(output) as journal:
        journal.open(SETTINGS, restart=True)
        assert journal.done == {}


@pytest.mark.parametrize(
    "facts",
    [
        [], None, {}, {"segment": 3}, {"segment": "../../x", "sha256": ""},
        {"segment": "000000.mkv", "sha256": 1, "pts": "x", "durations": [], "tail": 1, "tile": "a"},
    ],
)  # fmt: skip
def test_records_of_any_kind_are_refused_in_silence(tmp_path, facts):
    output = tmp_path / "out.mp4"
    with Journal(output) as journal:
        journal.open(SETTINGS, restart=False)
        commit(journal, 0)
        write_json(journal.folder / "000000.json", facts)
    assert reopened(output).done == {}
