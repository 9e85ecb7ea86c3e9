"""Datasets in their published folders, and what `framelift data check` says of them."""

import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from support import make_video

from framelift.cli.main import main
from framelift.datasets import dataset_names, open_dataset, open_source
from framelift.datasets.check import check_dataset
from framelift.errors import Exit, InputError, UsageError

VID4 = {
    "calendar": (41, (576, 720)),
    "city": (34, (576, 704)),
    "foliage": (49, (480, 720)),
    "walk": (47, (480, 720)),
}
UDM10 = [
    *("archpeople", "archwall", "auditorium", "band", "caffe"),
    *("camera", "clap", "lake", "photography", "polyflow"),
]
REDS4 = ["000", "011", "015", "020"]


def write(folder, frames, size, first=0, name="{:08d}.png"):
    """A folder of equal grey pictures."""
    folder.mkdir(parents=True)
    one = folder / name.format(first)
    cv2.imwrite(str(one), np.full((*size, 3), 90, np.uint8))
    for index in range(first + 1, first + frames):
        (folder / name.format(index)).hardlink_to(one)


def pairs(root, clips, frames, size, gt, lr, scale=4):
    """Clips at the pattern `gt` and their smaller versions at each pattern of `lr`."""
    for clip in clips:
        write(root / gt.format(clip), frames, size)
        for pattern in lr:
            write(root / pattern.format(clip), frames, (size[0] // scale, size[1] // scale))


def vid4(root):
    for clip, (frames, size) in VID4.items():
        pairs(root, [clip], frames, size, "GT/{}", ["BIx4/{}", "BDx4/{}"])


def reds(part, names, above=""):
    lr = f"{above}{part}_sharp_bicubic/X4/{{}}"
    return lambda root: pairs(root, names, 100, (720, 1280), f"{above}{part}_sharp/{{}}", [lr])


def numbered(first, last):
    return [f"{number:03d}" for number in range(first, last + 1)]


COMPLETE = {
    "reds4 official": ("reds4", None, reds("train", [*REDS4, "001"]), REDS4),
    "reds4 as unpacked": ("reds4", None, reds("train", REDS4, "train/"), REDS4),
    "reds4 BasicSR": (
        *("reds4", None),
        lambda r: pairs(r, REDS4, 100, (720, 1280), "GT/{}", ["sharp_bicubic/{}"]),
        REDS4,
    ),
    "reds30": ("reds30", None, reds("val", numbered(0, 29)), numbered(0, 29)),
    "reds30 merged": ("reds30", None, reds("train", numbered(239, 269)), numbered(240, 269)),
    "vid4": ("vid4", None, vid4, list(VID4)),
    "udm10 official": (
        *("udm10", None),
        lambda r: pairs(r, UDM10, 32, (720, 1272), "{}/truth", ["{}/blur4"]),
        UDM10,
    ),
    "udm10 by name": (
        *("udm10", None),
        lambda r: pairs(r, UDM10, 32, (720, 1272), "GT/{}", ["BDx4/{}"]),
        UDM10,
    ),
    "udm10 by number": (
        *("udm10", None),
        lambda r: pairs(r, numbered(0, 9), 32, (720, 1272), "GT/{}", ["BIx4/{}", "BDx4/{}"]),
        numbered(0, 9),
    ),
    "spmcs": (
        *("spmcs", None),
        lambda r: pairs(r, numbered(0, 29), 31, (540, 960), "{}/truth", ["{}/input4"]),
        numbered(0, 29),
    ),
    "realvsr test": (
        *("realvsr", None),
        lambda r: pairs(r, numbered(7, 56), 50, (512, 1024), "GT_test/{}", ["LQ_test/{}"], 1),
        numbered(7, 56),
    ),
    "videolq": (
        *("videolq", None),
        lambda r: [write(r / f"Input/{n:03d}", 3 + n % 3, (36, 48 + n)) for n in range(50)],
        numbered(0, 49),
    ),
}


@pytest.fixture
def run(capsys):
    def command(*words) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        return stop.value.code, *capsys.readouterr()

    return command


@pytest.mark.parametrize("case", COMPLETE)
def test_a_complete_copy_opens_and_passes(case, tmp_path):
    name, split, build, names = COMPLETE[case]
    build(tmp_path)
    dataset = open_dataset(name, tmp_path, split)
    assert [clip.name for clip in dataset.clips] == sorted(names)
    assert dataset.deviations == ()
    assert all(clip.measured is None for clip in dataset.clips)
    report = check_dataset(name, tmp_path, quick=True)
    assert report.wrong == ()
    assert report.clips == report.expected_clips == len(names)
    assert report.frames == sum(len(clip) for clip in dataset.clips)
    if name == "videolq":
        assert all(clip.gt is None for clip in dataset.clips)
        return
    clip = dataset.clips[0]
    assert clip.gt is not None
    assert clip.lr is not None
    assert len(clip.gt) == len(clip.lr)
    scale = 1 if name == "realvsr" else 4
    assert clip.lr.size == (clip.gt.size[0] // scale, clip.gt.size[1] // scale)


def test_vid4_through_the_command_line(run, tmp_path):
    vid4(tmp_path)
    code, out, err = run("data", "check", "vid4", tmp_path)
    assert (code, err) == (Exit.OK, "")
    assert "GT/{clip}, BIx4/{clip}" in out
    assert "4 of 4" in out
    assert "171, 34 to 49 a clip" in out
    assert "720×480 (clips: 2)" in out
    assert len(out.splitlines()) <= 24
    facts = json.loads(run("data", "check", "vid4", tmp_path, "--json", "--lr", "bd")[1])
    assert facts["where"] == "GT/{clip}, BDx4/{clip}"
    assert facts["lr_sizes"] == {"180×144": 1, "176×144": 1, "180×120": 2}


def test_everything_that_is_wrong_is_said(run, tmp_path):
    vid4(tmp_path)
    shutil.rmtree(tmp_path / "GT" / "city")
    (tmp_path / "BIx4" / "walk" / "00000046.png").unlink()
    (tmp_path / "GT" / "foliage" / "00000048.png").unlink()
    (tmp_path / "BIx4" / "foliage" / "00000048.png").unlink()
    damaged = tmp_path / "GT" / "calendar" / "00000020.png"
    data = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(data[:200])
    write(tmp_path / "GT" / "bonus", 2, (8, 8))
    shutil.rmtree(tmp_path / "BIx4" / "calendar")
    write(tmp_path / "BIx4" / "calendar", 41, (100, 100))
    code, out, _ = run("data", "check", "vid4", tmp_path)
    assert code == Exit.BAD_INPUT
    for sentence in (
        "Missing clips: city.",
        "Clip walk has 47 frames, but 46 low-resolution ones.",
        "Clip foliage has 48 frames; published are 49.",
        "Surplus clips: bonus.",
        f"{damaged} is not a readable picture.",
        "Clip calendar: 100×100 is not 720×576 divided by 4.",
    ):
        assert f"wrong   {sentence}\n" in out
    with pytest.raises(InputError, match=r"Missing clips: city.*data check vid4"):
        open_dataset("vid4", tmp_path)


def test_wrong_size_and_mixed_sizes(tmp_path):
    vid4(tmp_path)
    shutil.rmtree(tmp_path / "GT" / "walk")
    write(tmp_path / "GT" / "walk", 46, (576, 720))
    write(tmp_path / "more", 1, (48, 64), first=46)
    (tmp_path / "more" / "00000046.png").rename(tmp_path / "GT" / "walk" / "00000046.png")
    wrong = check_dataset("vid4", tmp_path).wrong
    assert "Clip walk is 720×576; published is 720×480." in wrong
    assert "Clip walk mixes the sizes 720×576, 64×48." in wrong
    source = open_dataset("vid4", tmp_path).clips[3].gt
    with pytest.raises(InputError, match=r"00000046.png is 64×48"):
        list(source.frames())


def test_too_few_clips_of_a_dataset_known_by_number(tmp_path):
    pairs(tmp_path, numbered(0, 28), 1, (540, 960), "{}/truth", ["{}/input4"])
    with pytest.raises(InputError, match="There are 29 clips; published are 30"):
        open_dataset("spmcs", tmp_path)


def test_a_shorter_copy_opens_with_its_deviations(tmp_path):
    pairs(tmp_path, REDS4, 5, (72, 128), "train_sharp/{}", [])
    dataset = open_dataset("reds4", tmp_path)
    assert len(dataset.deviations) == 4
    assert all(clip.lr is None for clip in dataset.clips)
    with pytest.raises(InputError, match="no low-resolution clips"):
        open_dataset("reds4", tmp_path, lr="bi")


def test_splits_of_reds(tmp_path):
    names = [f"{number:03d}" for number in range(240)]
    pairs(tmp_path, names, 1, (8, 16), "train_sharp/{}", [])
    train = {clip.name for clip in open_dataset("reds4", tmp_path, "train").clips}
    assert train == set(names) - set(REDS4)
    assert len(open_dataset("reds30", tmp_path, "train").clips) == 240


@pytest.fixture
def vimeo(tmp_path):
    """Three septuplets of Vimeo-90K, two of them in the test list, with both kinds of LR."""
    for clip in ("00001/0266", "00001/0268", "00002/0003"):
        above = "vimeo_septuplet"
        for folder, size in (
            (above, (256, 448)),
            (f"{above}_matlabLRx4", (64, 112)),
            (f"{above}_BDLRx4", (64, 112)),
        ):
            write(tmp_path / folder / "sequences" / clip, 7, size, 1, "im{}.png")
    (tmp_path / "vimeo_septuplet" / "sep_testlist.txt").write_text("00001/0266\n00002/0003\n\n")
    return tmp_path


def test_vimeo_reads_the_official_list_and_measures_the_centre(vimeo):
    dataset = open_dataset("vimeo90k-t", vimeo)
    assert [clip.name for clip in dataset.clips] == ["00001/0266", "00002/0003"]
    assert dataset.deviations == ("The list names 2 clips; published are 7824.",)
    clip = dataset.clips[0]
    assert clip.measured == (3,)
    assert clip.gt.paths[3].name == "im4.png"
    assert (clip.gt.size, clip.lr.size) == ((256, 448), (64, 112))
    assert "BDLRx4" in open_dataset("vimeo90k-t", vimeo, lr="bd").where


def test_a_list_that_is_no_text(vimeo):
    (vimeo / "vimeo_septuplet/sep_testlist.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="is not a text"):
        open_dataset("vimeo90k-t", vimeo)


def test_vimeo_below_its_own_root_and_with_the_lists_of_basicsr(vimeo):
    root = vimeo / "vimeo_septuplet"
    assert len(open_dataset("vimeo90k-t", root).clips) == 2
    with pytest.raises(InputError, match=r"meta_info_Vimeo90K_test_slow_GT\.txt"):
        open_dataset("vimeo90k-t", root, "slow")
    line = "00001/0268 7 (256,448,3)\n"
    (root / "meta_info_Vimeo90K_test_slow_GT.txt").write_text(line)
    assert [c.name for c in open_dataset("vimeo90k-t", root, "slow").clips] == ["00001/0268"]


def test_a_folder_of_videos_and_frames(clips, tmp_path):
    shutil.copy(clips("a.mp4", frames=6), tmp_path / "a.mp4")
    write(tmp_path / "b", 4, (48, 64))
    (tmp_path / "notes").mkdir()
    dataset = open_dataset("folder", tmp_path)
    assert [(clip.name, len(clip), clip.gt.size) for clip in dataset.clips] == [
        ("a", 6, (48, 64)),
        ("b", 4, (48, 64)),
    ]
    alone = open_dataset("folder", tmp_path / "b")
    assert [(clip.name, len(clip)) for clip in alone.clips] == [("b", 4)]
    assert len(open_dataset("folder", tmp_path).pieces(2).clips) == 5
    assert check_dataset("folder", tmp_path).wrong == ()


def test_a_folder_of_pairs(tmp_path):
    pairs(tmp_path, ["x", "y"], 3, (48, 64), "GT/{}", ["LQ/{}"], scale=2)
    dataset = open_dataset("folder", tmp_path)
    assert [clip.lr.size for clip in dataset.clips] == [(24, 32), (24, 32)]
    assert check_dataset("folder", tmp_path, lr="lq").wrong == ()
    with pytest.raises(UsageError, match="Choose one of lq"):
        open_dataset("folder", tmp_path, lr="bd")
    shutil.rmtree(tmp_path / "LQ" / "y")
    write(tmp_path / "LQ" / "y", 3, (20, 32))
    assert check_dataset("folder", tmp_path).wrong == ("Clip y: 32×20 is no whole part of 64×48.",)


def test_pieces_are_parts_of_their_clips(tmp_path):
    folder = tmp_path / "clips" / "a"
    folder.mkdir(parents=True)
    for index in range(7):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((8, 8, 3), index, np.uint8))
    pieces = open_dataset("folder", tmp_path / "clips").pieces(3).clips
    assert [clip.name for clip in pieces] == ["a@0", "a@3"]
    levels = [[int(frame[0, 0, 0]) for frame in clip.gt.frames()] for clip in pieces]
    assert levels == [[0, 1, 2], [3, 4, 5]]
    assert [int(f[0, 0, 0]) for f in pieces[1].gt.frames(1)] == [4, 5]
    assert [int(f[0, 0, 0]) for f in pieces[1].gt.frames(-1, 9)] == [5]
    assert list(pieces[0].gt.frames(3)) == []


def test_sources_read_rgb_in_natural_order(tmp_path):
    for index in (1, 2, 10):
        bgr = np.zeros((4, 6, 3), np.uint16)
        bgr[..., 2] = index * 257
        cv2.imwrite(str(tmp_path / f"f{index}.png"), bgr)
    source = open_source(tmp_path)
    assert [frame[0, 0].tolist() for frame in source.frames()] == [[1, 0, 0], [2, 0, 0], [10, 0, 0]]
    assert [frame[0, 0, 0] for frame in source.frames(1, 2)] == [2]
    assert len(open_source(tmp_path / "f%d.png")) == 3
    assert next(source.frames()).flags["C_CONTIGUOUS"]


def test_videos_are_read_in_part_and_rounded_to_8_bits(tmp_path):
    deep = make_video(tmp_path / "v.mkv", frames=5, codec="ffv1", pix_fmt="yuv444p10le")
    source = open_source(deep)
    frames = list(source.frames())
    assert len(source) == len(frames) == 5
    assert {f.dtype.name for f in frames} == {"uint8"}
    assert {f.shape for f in frames} == {(*source.size, 3)}
    np.testing.assert_array_equal(list(source.frames(2, 4)), frames[2:4])


def test_words_that_are_not_understood(run, tmp_path):
    root = tmp_path / "Vid4"
    vid4(root)
    assert run("data", "check", "vid5", root)[0] == Exit.USAGE
    assert run("data", "check", "vid4", root, "--split", "train")[0] == Exit.USAGE
    assert run("data", "check", "vid4", root, "--lr", "real")[0] == Exit.USAGE
    code, _, err = run("data", "check", "vid4", tmp_path / "nowhere")
    assert code == Exit.BAD_INPUT
    assert "is not a folder" in err
    code, _, err = run("data", "check", "vid4", tmp_path)
    assert code == Exit.BAD_INPUT
    assert f"Name {root} instead." in err
    with pytest.raises(UsageError, match="reds4"):
        open_dataset("vid5", tmp_path)


def test_list(run):
    code, out, _ = run("data", "list")
    assert code == Exit.OK
    assert all(name in out for name in dataset_names())
    facts = json.loads(run("data", "list", "--json")[1])
    assert facts["vimeo90k-t"]["splits"]["test"] == 7824
    assert facts["bair"]["frames"] == 30


def test_checking_loads_no_torch(tmp_path):
    write(tmp_path / "a", 1, (8, 8))
    code = (
        "import sys, framelift.cli.main as cli\n"
        f"try: cli.main(['data', 'check', 'folder', {str(tmp_path)!r}])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
