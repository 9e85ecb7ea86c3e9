import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from framelift.files import (
    atomic,
    free_bytes,
    part_path,
    publish,
    read_json,
    sha256,
    write_json,
)


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def crash_while_writing(final: Path) -> None:
    with atomic(final) as part:
        part.write_text("half")
        raise RuntimeError("crash")


@pytest.mark.parametrize("old", [None, "old"])
def test_atomic_replaces_on_success_only(tmp_path, old):
    final = tmp_path / "a.txt"
    if old:
        final.write_text(old)
    with pytest.raises(RuntimeError, match="crash"):
        crash_while_writing(final)
    assert names(tmp_path) == ({"a.txt"} if old else set())
    assert not old or final.read_text() == old
    with atomic(final) as part:
        assert part.parent == tmp_path
        part.write_text("new")
        assert final.exists() == bool(old)
    assert names(tmp_path) == {"a.txt"}
    assert final.read_text() == "new"


def test_a_killed_process_leaves_the_old_file(tmp_path):
    final = tmp_path / "a.txt"
    final.write_text("old")
    code = (
        "import os, pathlib, sys; from framelift.files import atomic\n"
        "with atomic(pathlib.Path(sys.argv[1])) as part:\n"
        "    part.write_text('half')\n"
        "    os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(final)], check=False)
    assert done.returncode == 9
    assert final.read_text() == "old"
    assert all(name.startswith(".a.") for name in names(tmp_path) - {"a.txt"})


def test_nothing_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "a.txt"):
        pass
    assert not names(tmp_path)


def test_part_paths_are_hidden_unique_and_keep_the_extension(tmp_path):
    final = tmp_path / f"{'long' * 50}.mp4"
    parts = {part_path(final) for _ in range(50)}
    assert len(parts) == 50
    for part in parts:
        assert (part.parent, part.suffix) == (tmp_path, ".mp4")
        assert part.name.startswith(".")
        assert len(os.fsencode(part.name)) < 255


def test_publish_moves_files_and_folders(tmp_path):
    (tmp_path / "a.part").write_text("new")
    (tmp_path / "a").write_text("old")
    publish(tmp_path / "a.part", tmp_path / "a")
    (tmp_path / "b.part").mkdir()
    (tmp_path / "b.part" / "x").write_text("x")
    publish(tmp_path / "b.part", tmp_path / "b")
    assert names(tmp_path) == {"a", "b"}
    assert (tmp_path / "a").read_text() == "new"
    assert (tmp_path / "b" / "x").read_text() == "x"


def test_json_round_trip(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": [1, None], "a": "ü→", "path": Path("x") / "y"})
    assert read_json(path) == {"a": "ü→", "b": [1, None], "path": str(Path("x") / "y")}
    assert path.read_bytes().endswith(b"\n")
    with pytest.raises(TypeError):
        write_json(path, {("not", "a key"): 1})
    assert read_json(path)["b"] == [1, None]
    assert names(tmp_path) == {"a.json"}


def test_sha256_of_a_file(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == hashlib.sha256(b"abc").hexdigest()


def test_sha256_of_a_folder_knows_names_and_contents(tmp_path):
    def folder(name: str, **files: str) -> str:
        path = tmp_path / name
        path.mkdir()
        for file, content in files.items():
            (path / file).write_text(content)
        return sha256(path)

    digest = folder("a", x="1", y="2")
    assert digest == folder("b", y="2", x="1")
    others = [folder("c", x="2", y="1"), folder("d", x="1"), folder("e", x="1", z="2"), folder("f")]
    assert len({digest, *others}) == 5


def test_free_bytes_of_a_folder_that_will_be(tmp_path):
    assert free_bytes(tmp_path / "not" / "yet") > 0
    assert not names(tmp_path)
