"""The datasets by the names that papers use. Layouts, counts and sizes are those published."""

from functools import partial
from pathlib import Path

from framelift.datasets import bair, moving_mnist
from framelift.datasets.base import Dataset, Maker, choose
from framelift.datasets.layout import Layout, Spec, Split, find_clips
from framelift.errors import InputError, UsageError


def _numbered(first: int, last: int) -> tuple[str, ...]:
    return tuple(f"{number:03d}" for number in range(first, last + 1))


def _reds(part: str, names: tuple[str, ...] | None = None) -> tuple[Layout, ...]:
    """REDS as its archives unpack: side by side, or each below its own train/ or val/."""
    gt, lr = f"{part}_sharp/{{clip}}", f"{part}_sharp_bicubic/X4/{{clip}}"
    return tuple(
        Layout(f"{above}{gt}", {"bi": f"{above}{lr}"}, names, shared=True)
        for above in ("", f"{part}/")
    )


_PAIRS = {"bi": "BIx4/{clip}", "bd": "BDx4/{clip}"}
_FLAT = Layout("GT/{clip}", _PAIRS)
_REDS4 = ("000", "011", "015", "020")
_VIMEO = (
    Layout(
        "vimeo_septuplet/sequences/{clip}",
        {
            "bi": "vimeo_septuplet_matlabLRx4/sequences/{clip}",
            "bd": "vimeo_septuplet_BDLRx4/sequences/{clip}",
        },
        shared=True,
    ),
    Layout("sequences/{clip}", _PAIRS, shared=True),
    Layout("GT/{clip}", _PAIRS, shared=True),
)
_UDM10 = (
    *("archpeople", "archwall", "auditorium", "band", "caffe"),
    *("camera", "clap", "lake", "photography", "polyflow"),
)


def _vimeo(clips: int, part: str, official: str | None = None) -> Split:
    names = [f"meta_info_Vimeo90K_{part}_GT.txt"]
    if official:
        names = [official, f"vimeo_septuplet/{official}", *names]
    return Split(_VIMEO, clips, tuple(names))


def _bair(camera: str) -> Spec:
    return Spec(
        f"BAIR robot pushing, 64×64, camera {camera}",
        {split: Split(clips=count) for split, count in bair.COUNTS.items()},
        "see its page",
        "https://sites.google.com/view/sna-visual-mpc",
        frames=bair.FRAMES,
        size=(bair.SIDE, bair.SIDE),
        read=partial(bair.read_bair, camera=camera),
    )


DATASETS: dict[str, Spec] = {
    "reds4": Spec(
        "REDS4, the four training clips that papers test on",
        {
            "test": Split(
                (
                    *_reds("train"),
                    Layout("GT/{clip}", {"bi": "sharp_bicubic/{clip}"}),
                    _FLAT,
                ),
                _REDS4,
            ),
            "train": Split(_reds("train"), tuple(n for n in _numbered(0, 239) if n not in _REDS4)),
        },
        "CC BY 4.0",
        "https://seungjunnah.github.io/Datasets/reds",
        frames=100,
        size=(720, 1280),
    ),
    "reds30": Spec(
        "REDS30, the validation split of REDS",
        {
            "val": Split((*_reds("val"), *_reds("train", _numbered(240, 269))), _numbered(0, 29)),
            "train": Split(_reds("train"), _numbered(0, 239)),
        },
        "CC BY 4.0",
        "https://seungjunnah.github.io/Datasets/reds",
        frames=100,
        size=(720, 1280),
    ),
    "vimeo90k-t": Spec(
        "Vimeo-90K septuplets",
        {
            "test": _vimeo(7_824, "test", "sep_testlist.txt"),
            "train": _vimeo(64_612, "train", "sep_trainlist.txt"),
            "fast": _vimeo(1_225, "test_fast"),
            "medium": _vimeo(4_977, "test_medium"),
            "slow": _vimeo(1_613, "test_slow"),
        },
        "non-commercial use only",
        "http://toflow.csail.mit.edu",
        frames=7,
        size=(256, 448),
        measured=(3,),
    ),
    "vid4": Spec(
        "Vid4",
        {"test": Split((_FLAT,), ("calendar", "city", "foliage", "walk"))},
        "see its page",
        "https://drive.google.com/file/d/1ZuvNNLgR85TV_whJoHM7uVb-XW1y70DW",
        frames={"calendar": 41, "city": 34, "foliage": 49, "walk": 47},
        size={
            "calendar": (576, 720),
            "city": (576, 704),
            "foliage": (480, 720),
            "walk": (480, 720),
        },
    ),
    "udm10": Spec(
        "UDM10",
        {
            "test": Split(
                (
                    _FLAT,
                    Layout("{clip}/truth", {"bd": "{clip}/blur4"}),
                    Layout("GT/{clip}", _PAIRS, _numbered(0, 9)),
                ),
                _UDM10,
            )
        },
        "see its page",
        "https://github.com/psychopa4/PFNL",
        frames=32,
        size=(720, 1272),
    ),
    "spmcs": Spec(
        "SPMCS",
        {"test": Split((Layout("{clip}/truth", {"bi": "{clip}/input4"}), _FLAT), 30)},
        "see its page",
        "https://github.com/jiangsutx/SPMC_VideoSR",
        frames=31,
        size=(540, 960),
    ),
    "realvsr": Spec(
        "RealVSR",
        {
            "test": Split(
                (
                    Layout("GT_test/{clip}", {"real": "LQ_test/{clip}"}),
                    Layout("GT/{clip}", {"real": "LQ/{clip}"}),
                ),
                50,
            ),
            "all": Split((Layout("GT/{clip}", {"real": "LQ/{clip}"}),), _numbered(0, 499)),
        },
        "see its page",
        "https://github.com/IanYeung/RealVSR",
        frames=50,
        size=(512, 1024),
        scale=1,
    ),
    "videolq": Spec(
        "VideoLQ, without ground truth",
        {
            "test": Split(
                (Layout(None, {"real": "Input/{clip}"}), Layout(None, {"real": "{clip}"})),
                _numbered(0, 49),
            )
        },
        "see its page",
        "https://github.com/ckkelvinchan/RealBasicVSR",
    ),
    "bair": _bair("aux1"),
    "bair-main": _bair("main"),
    "moving-mnist": Spec(
        "Moving MNIST",
        {split: Split(clips=count) for split, count in moving_mnist.CLIPS.items()},
        "CC BY-SA 3.0 (MNIST)",
        "http://www.cs.toronto.edu/~nitish/unsupervised_video",
        size=(64, 64),
        read=moving_mnist.read_moving_mnist,
        makers=moving_mnist.MAKERS,
    ),
    "folder": Spec(
        "videos or folders of frames",
        {
            "all": Split(
                (
                    Layout("."),
                    Layout("GT/{clip}", {"lr": "LR/{clip}", "lq": "LQ/{clip}"} | _PAIRS),
                    Layout("{clip}"),
                )
            )
        },
        "yours",
        "",
        scale=None,
    ),
}


def dataset_names() -> list[str]:
    """The names that `open_dataset` knows."""
    return list(DATASETS)


def find_spec(name: str) -> Spec:
    """What is published about a dataset; UsageError for an unknown name."""
    if name not in DATASETS:
        raise UsageError(
            f"There is no dataset {name!r}.", f"Choose one of {', '.join(dataset_names())}."
        )
    return DATASETS[name]


def find_maker(name: str, root: Path, split: str) -> Maker | None:
    """What makes the clips of a dataset's split, where they are made by rule."""
    make = find_spec(name).makers.get(split)
    return make(Path(root)) if make else None


def open_dataset(name: str, root: Path, split: str | None = None, lr: str | None = None) -> Dataset:
    """Open a split of a dataset that lies in the published folders below `root`.

    `lr` is the kind of low-resolution frames (bi, bd, real), by default the first that is there.
    Raises InputError if clips are missing or their frames do not pair up; what else differs from
    the published dataset is listed in `deviations`.
    """
    spec = find_spec(name)
    split = choose(f"split of {name}", split, tuple(spec.splits))
    found = find_clips(spec, Path(root), split, lr)
    if not found.clips:
        raise InputError(f"{root} holds no clip of {spec.title} ({split}).", "Download it again.")
    if found.problems:
        raise InputError(
            f"{root} is not {spec.title} ({split}): {found.problems[0]}",
            f"framelift data check {name} {root} lists everything that is wrong.",
        )
    return Dataset(name, Path(root), split, found.clips, found.where, found.deviations)
