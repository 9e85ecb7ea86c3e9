"""Keys change with the code that decides a result, and with nothing else."""

import shutil
import sys
from pathlib import Path

import pytest

import framelift
from framelift.errors import InputError
from framelift.evaluation.cache import Cache, code_digest, source_digest
from framelift.files import sha256

PACKAGE = Path(framelift.__file__).parent


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A copy of framelift's source."""
    folder = tmp_path_factory.mktemp("copy") / "framelift"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"))
    return folder


def test_a_copy_has_the_same_digest(package):
    assert source_digest(package) == code_digest() == source_digest(PACKAGE)
    assert sum(1 for _ in package.rglob("*.py")) > 100


@pytest.mark.parametrize(
    "file", sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py")), ids=str
)
def test_any_changed_file_changes_it(package, file):
    path = package / file
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    try:
        assert source_digest(package) != code_digest()
    finally:
        path.write_bytes(before)


def test_moved_new_and_lost_files_change_it(package, tmp_path):
    whole = source_digest(package)
    (package / "flow.py").rename(tmp_path / "flow.py")
    without = source_digest(package)
    shutil.copy(tmp_path / "flow.py", package / "stream.py")
    moved = source_digest(package)
    shutil.copy(tmp_path / "flow.py", package / "flow.py")
    more = source_digest(package)
    (package / "stream.py").unlink()
    assert len({whole, without, moved, more}) == 4
    assert source_digest(package) == whole


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A package that is not framelift, and a lone module."""
    (tmp_path / "toys/deep").mkdir(parents=True)
    for name in ("toys/__init__.py", "toys/deep/__init__.py", "toys/deep/pipeline.py", "lone.py"):
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [n for n in sys.modules if n.partition(".")[0] in ("toys", "lone")]:
        del sys.modules[name]
    code_digest.cache_clear()


def test_a_method_outside_brings_its_package(outside):
    def digest(*modules):
        code_digest.cache_clear()
        return code_digest(*modules)

    assert digest("framelift.methods.image_ldm.pipeline") == digest()
    before = {name: digest(name) for name in ("toys.deep.pipeline", "lone")}
    assert len({digest(), *before.values()}) == 3
    assert digest("lone") == before["lone"]
    (outside / "toys/__init__.py").write_text("x = 2\n")
    assert digest("toys.deep.pipeline") != before["toys.deep.pipeline"]
    assert digest("lone") == before["lone"]
    (outside / "lone.py").write_text("x = 2\n")
    assert digest("lone") != before["lone"]


def test_what_is_not_there_has_no_digest(tmp_path):
    with pytest.raises(InputError, match="no Python source"):
        source_digest(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="nothing"):
        sha256(tmp_path / "nothing")
    with pytest.raises(InputError, match="builtins cannot be found"):
        code_digest("builtins")


def test_results_are_found_by_content(tmp_path):
    cache = Cache(tmp_path)
    assert cache.get({"a": 1, "b": [2]}) is None
    cache.put({"a": 1, "b": [2]}, {"psnr": 3.5})
    assert Cache(tmp_path).get({"b": [2], "a": 1}) == {"psnr": 3.5}
    assert cache.get({"a": 1, "b": [3]}) is None
