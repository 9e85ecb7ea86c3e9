"""Published folder arrangements, described as patterns, and the one function that reads them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from framelift.datasets.base import Clip, Maker, Size, choose, open_source
from framelift.errors import InputError, UsageError
from framelift.video.containers import VIDEO_SUFFIXES
from framelift.video.sequence import SUFFIXES as IMAGES


@dataclass(frozen=True)
class Layout:
    """Where one arrangement keeps its clips, relative to the root; {clip} is a clip's name.

    A pattern without {clip} is the only clip.
    """

    gt: str | None
    """Pattern of the high-resolution clips, for example "GT/{clip}"."""
    lr: Mapping[str, str] = field(default_factory=dict)
    """Patterns of the low-resolution clips by kind: bi, bd, real. The first found is the default.
    """
    names: tuple[str, ...] | None = None
    """Names of the clips, where this arrangement renames them."""
    shared: bool = False
    """Whether the folder holds clips of other splits, too."""

    def __str__(self) -> str:
        return self.gt or next(iter(self.lr.values()))


@dataclass(frozen=True)
class Split:
    """The clips of a split: their names, or their number, or a file that lists them."""

    layouts: tuple[Layout, ...] = ()
    clips: tuple[str, ...] | int | None = None
    lists: tuple[str, ...] = ()
    """List files relative to the root; the first that is there is read, one clip a line."""


@dataclass(frozen=True)
class Found:
    """Clips as they lie on the disk. `problems` forbid their use, `deviations` do not."""

    clips: tuple[Clip, ...]
    where: str
    problems: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spec:
    """Everything that is published about a dataset."""

    title: str
    splits: Mapping[str, Split]
    """The first one is the default."""
    licence: str
    home: str
    frames: int | Mapping[str, int] | None = None
    """Frames of every clip, or by clip name; None where they vary."""
    size: Size | Mapping[str, Size] | None = None
    """High-resolution size, likewise."""
    scale: int | None = 4
    """High-resolution pixels for one low-resolution pixel; None where any whole number will do."""
    measured: tuple[int, ...] | None = None
    read: Callable[[Path, str], Found] | None = None
    """Reader of datasets that are not folders of frames."""
    makers: Mapping[str, Callable[[Path], Maker]] = field(default_factory=dict)
    """The splits whose clips are made by rule."""

    def expected_frames(self, clip: str) -> int | None:
        """The published number of frames of a clip."""
        return self.frames.get(clip) if isinstance(self.frames, Mapping) else self.frames

    def expected_size(self, clip: str) -> Size | None:
        """The published high-resolution size of a clip."""
        return self.size.get(clip) if isinstance(self.size, Mapping) else self.size

    def expected_clips(self, split: str) -> int | None:
        """The published number of clips."""
        clips = self.splits[split].clips
        return len(clips) if isinstance(clips, tuple) else clips


def find_clips(spec: Spec, root: Path, split: str, lr: str | None = None) -> Found:
    """Find the clips of a split below `root`, and what is wrong with them.

    `lr` is the kind of low-resolution clips (bi, bd, real), the first there by default. Raises
    InputError if nothing below `root` looks like the dataset.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder.", "Name the folder that holds the dataset.")
    if spec.read is not None:
        if lr is not None:
            raise UsageError(f"{spec.title} has no low-resolution frames.", "Leave --lr out.")
        return spec.read(root, split)
    layout, names = _recognise(spec, root, split)
    main = _locate(root, str(layout), names)
    problems, deviations = _compare_names(spec, root, split, layout, names, main)
    kind = _lr_kind(root, layout, names, lr)
    low = _locate(root, layout.lr[kind], names) if kind else {}
    if kind and layout.gt:
        problems += _few("Clips without low-resolution frames", [n for n in main if n not in low])
    clips = []
    for name, path in main.items():
        small = open_source(low[name]) if name in low else None
        clips.append(Clip(name, open_source(path) if layout.gt else None, small, spec.measured))
        problems += _unequal(clips[-1])
        deviations += _frames_off(spec, clips[-1])
    where = ", ".join(p for p in (layout.gt, layout.lr.get(kind or "")) if p)
    return Found(tuple(clips), where, tuple(problems), tuple(deviations))


def _recognise(spec: Spec, root: Path, split: str) -> tuple[Layout, tuple[str, ...] | None]:
    """The layout that finds most clips, and the names to look for, if they are known."""
    listed = _read_list(root, spec, split)
    clips = spec.splits[split].clips
    known = clips if isinstance(clips, tuple) else None
    candidates = [
        (layout, listed or layout.names or known) for layout in spec.splits[split].layouts
    ]

    def finds(layout: Layout, names: tuple[str, ...] | None, folder: Path) -> tuple[int, int]:
        found = _locate(folder, str(layout), names)
        return len(found), sum(bool(_locate(folder, p, names)) for p in layout.lr.values())

    counts = [finds(*candidate, root) for candidate in candidates]
    if max(counts)[0]:
        return candidates[counts.index(max(counts))]
    patterns = dict.fromkeys(str(layout) for layout, _ in candidates)
    places = " or ".join(pattern for pattern in patterns if pattern != ".")
    below = (f for f in sorted(root.iterdir()) if f.is_dir())
    instead = next((f for f in below if any(finds(*c, f)[0] for c in candidates)), None)
    raise InputError(
        f"{root} does not hold {spec.title}: there is no clip at {places}.",
        f"Name {instead} instead." if instead else "docs/datasets.md shows the folders.",
    )


def _read_list(root: Path, spec: Spec, split: str) -> tuple[str, ...] | None:
    """Clip names of the official list: the first word of every line."""
    lists = spec.splits[split].lists
    for file in lists:
        if (root / file).is_file():
            try:
                lines = (root / file).read_text("utf-8").splitlines()
            except UnicodeDecodeError as error:
                raise InputError(f"{root / file} is not a text.", "Copy it again.") from error
            return tuple(line.split()[0] for line in lines if line.strip())
    if lists:
        raise InputError(
            f"{root} holds no list of the clips of {spec.title}, {split}.",
            f"Copy {' or '.join(dict.fromkeys(Path(f).name for f in lists))} there.",
        )
    return None


def _locate(root: Path, pattern: str, names: tuple[str, ...] | None) -> dict[str, Path]:
    """Clips that are there, by name: folders that hold pictures, and videos."""
    if not (root / pattern.partition("{clip}")[0]).is_dir():
        return {}
    if names is None:
        return _list_clips(root, pattern)
    places = {name: root / pattern.format(clip=name) for name in names}
    return {name: there for name, place in places.items() if (there := _place(place)) is not None}


def _list_clips(root: Path, pattern: str) -> dict[str, Path]:
    above, star, below = pattern.partition("{clip}")
    if not star:
        return {root.resolve().name: root} if _place(root) else {}
    folder, clips = root / above, {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__")):
            continue
        if path.is_dir() and (place := _place(folder / f"{path.name}{below}")):
            clips[path.name] = place
        elif path.suffix.lower() in VIDEO_SUFFIXES and not below:
            clips[path.name if path.stem in clips else path.stem] = path
    return clips


def _place(path: Path) -> Path | None:
    if path.is_dir():
        return path if any(p.suffix.lower() in IMAGES for p in path.iterdir()) else None
    videos = (path.with_name(path.name + suffix) for suffix in VIDEO_SUFFIXES)
    return next((video for video in videos if video.is_file()), None)


def _lr_kind(
    root: Path, layout: Layout, names: tuple[str, ...] | None, wanted: str | None
) -> str | None:
    there = tuple(k for k, pattern in layout.lr.items() if _locate(root, pattern, names))
    if wanted is not None and not there:
        raise InputError(
            f"{root} holds no low-resolution clips.",
            f"Put them at {' or '.join(layout.lr.values())}." if layout.lr else "Leave --lr out.",
        )
    return choose("low-resolution kind", wanted, there) if there else None


def _compare_names(
    spec: Spec,
    root: Path,
    split: str,
    layout: Layout,
    names: tuple[str, ...] | None,
    found: Mapping[str, Path],
) -> tuple[list[str], list[str]]:
    """Missing clips are a problem, surplus ones only if nothing tells which they are."""
    expected = spec.expected_clips(split)
    if names is None:
        wrong = expected is not None and len(found) != expected
        return ([f"There are {len(found)} clips; published are {expected}."] if wrong else []), []
    problems = _few("Missing clips", [n for n in names if n not in found])
    deviations = []
    if expected is not None and len(names) != expected:
        deviations.append(f"The list names {len(names)} clips; published are {expected}.")
    if not layout.shared:
        surplus = set(_locate(root, str(layout), None)) - set(names)
        deviations += _few("Surplus clips", sorted(surplus))
    return problems, deviations


def _unequal(clip: Clip) -> list[str]:
    if clip.gt is None or clip.lr is None or len(clip.gt) == len(clip.lr):
        return []
    return [f"Clip {clip.name} has {len(clip.gt)} frames, but {len(clip.lr)} low-resolution ones."]


def _frames_off(spec: Spec, clip: Clip) -> list[str]:
    expected = spec.expected_frames(clip.name)
    if expected is None or expected == len(clip):
        return []
    return [f"Clip {clip.name} has {len(clip)} frames; published are {expected}."]


def _few(what: str, names: list[str]) -> list[str]:
    """One sentence that names clips, or none if there are none; long lists are cut."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return [f"{what}: {', '.join(names[:5])}{more}."] if names else []
