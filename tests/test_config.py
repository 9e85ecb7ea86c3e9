"""Settings from files and words: what is read, and which sentence meets what cannot be."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from framelift.config import from_mapping, from_strings, read_toml
from framelift.errors import InputError, UsageError

First = Literal["a", "b"]


@dataclass(frozen=True)
class Inner:
    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}, but must be 1 or more")


@dataclass(frozen=True)
class Settings:
    name: str
    choice: First | Literal["preset"] = "preset"
    steps: int | None = None
    share: float = 0.5
    inner: Inner = field(default_factory=Inner)
    numbers: list[int] | None = None
    pairs: dict[str, float] = field(default_factory=dict)
    free: dict[str, Any] = field(default_factory=dict)


def test_what_fits_is_converted():
    content = {
        "name": 5,
        "choice": "preset",
        "share": 1,
        "inner": {"size": 2},
        "numbers": [1, 2],
        "pairs": {"4": 1},
        "free": {"deep": [{"er": True}]},
    }
    settings = from_mapping(Settings, content, "here")
    assert settings == Settings(
        "5", "preset", None, 1.0, Inner(2), [1, 2], {"4": 1.0}, {"deep": [{"er": True}]}
    )
    assert from_mapping(Settings, {"name": "x", "choice": "b"}, "here").choice == "b"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"choice": "c"}, "choice is 'c'. Choose one of a, b, preset"),
        ({"choice": ["a"]}, "Choose one of"),
        ({"steps": "many"}, "steps is 'many'. It must be of type int"),
        ({"steps": True}, "of type int"),
        ({"share": None}, "share is None"),
        ({"inner": 5}, "inner is 5. It must be a table"),
        ({"inner": {"size": 0}}, "inner: size is 0, but must be 1 or more"),
        ({"numbers": [[1]]}, "numbers is .1.. It must be of type int"),
        ({"numbers": 5}, "must be a list"),
        ({"pairs": {"4": "x"}}, "must be of type float"),
        ({"pairs": [1]}, "must be a table"),
        ({"stepps": 1}, "Did you mean 'steps'"),
    ],
)
def test_what_does_not_fit_is_a_sentence(content, message):
    with pytest.raises(UsageError, match=message) as caught:
        from_mapping(Settings, {"name": "x", **content}, "here")
    assert caught.value.remedy


def test_words_of_the_command_line():
    words = ["steps=3", "share=none", "name= a b ", "numbers=true"]
    expected = {"steps": 3, "share": None, "name": "a b", "numbers": True}
    assert from_strings(Settings, words, "--options") == expected
    with pytest.raises(UsageError, match="no value"):
        from_strings(Settings, ["steps"], "--options")


@pytest.mark.parametrize(
    "content",
    [b"a = ", b"\xff\xfe", b"a = " + b"[" * 100_000, b"a = 1\na = 2"],
    ids=["unfinished", "not UTF-8", "nested too deeply", "twice"],
)
def test_files_that_are_no_toml(tmp_path, content):
    path = tmp_path / "faulty.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a readable preset"):
        read_toml(path, "preset")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match="no recipe"):
        read_toml(tmp_path / "missing.toml", "recipe")
    with pytest.raises(InputError, match="not a readable recipe"):
        read_toml(tmp_path, "recipe")
