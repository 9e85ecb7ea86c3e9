"""Photos, sequences and mixed folders on the command line."""

import av
import numpy as np
import pytest
from PIL import Image
from support import make_video, patches

from framelift.cli.main import main
from framelift.errors import Exit

SIZE = (24, 32)


@pytest.fixture
def lift(tiny_pipeline, capsys):
    """Run the command: exit code and standard error."""

    def run(*words):
        with pytest.raises(SystemExit) as stop:
            main(["upscale", *map(str, words), "--preset", str(tiny_pipeline), "-q"])
        return stop.value.code, capsys.readouterr().err

    return run


def photo(path, number=0):
    Image.fromarray(patches(number, SIZE)).save(path)
    return path


def size_of(path):
    with Image.open(path) as image:
        return image.size


def names(folder):
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".json")


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "100%done.jpg", "a%05d.png"])
def test_one_photo_becomes_one_picture(tmp_path, lift, name):
    source = photo(tmp_path / name)
    code, err = lift(source)
    assert (code, err) == (Exit.OK, "")
    made = tmp_path / f"{source.stem}_4x{source.suffix}"
    assert names(tmp_path) == sorted([name, made.name])
    assert size_of(made) == (128, 96)
    assert lift(source, "-o", tmp_path / "x.webp")[0] == Exit.OK
    assert size_of(tmp_path / "x.webp") == (128, 96)


def test_one_frame_of_a_video_becomes_one_picture(tmp_path, lift):
    clip = make_video(tmp_path / "clip.mp4", size=SIZE, frames=4)
    code, err = lift(clip, "-o", tmp_path / "x.png")
    assert code == Exit.USAGE
    assert "4 frames" in err
    assert lift(clip, "-o", tmp_path / "x.png", "--frames", "1:2")[0] == Exit.OK
    assert size_of(tmp_path / "x.png") == (128, 96)
    code, err = lift(clip, "-o", tmp_path / "y.png", "--start", "0")
    assert code == Exit.USAGE
    assert names(tmp_path) == ["clip.mp4", "x.png"]


def test_photos_and_videos_of_one_folder_are_all_done(tmp_path, lift):
    folder = tmp_path / "trip"
    (folder / "more").mkdir(parents=True)
    photo(folder / "a.jpg")
    photo(folder / "b.png", 1)
    make_video(folder / "c.mp4", size=SIZE, frames=2)
    make_video(folder / "d.VOB", size=SIZE, frames=2, codec="mpeg2video")
    code, err = lift(folder, "-o", tmp_path / "out")
    assert code == Exit.OK
    assert f"{folder / 'more'} is not entered" in err
    assert names(tmp_path / "out") == ["a_4x.jpg", "b_4x.png", "c_4x.mp4", "d_4x.mkv"]
    assert lift(folder)[0] == Exit.OK
    before = names(folder)
    assert lift(folder)[0] == Exit.OK
    assert names(folder) == before  # its own results are no inputs


def test_folder_of_images_stays_a_sequence(tmp_path, lift):
    folder = tmp_path / "shot.v2"
    folder.mkdir()
    for n in range(2):
        photo(folder / f"{n}.png", n)
    assert lift(folder)[0] == Exit.OK
    assert names(tmp_path / "shot.v2_4x") == ["00001.png", "00002.png"]


def test_animated_picture_becomes_a_video(tmp_path, lift):
    pictures = [Image.fromarray(patches(n, SIZE)) for n in range(3)]
    for name, lossless in (("a.webp", {"lossless": True}), ("b.png", {})):
        pictures[0].save(
            tmp_path / name, save_all=True, append_images=pictures[1:], duration=70, **lossless
        )
        assert lift(tmp_path / name)[0] == Exit.OK
        with av.open(str(tmp_path / f"{name[0]}_4x.mkv")) as made:
            times = [float(f.time) for f in made.decode(video=0)]
        np.testing.assert_allclose(times, [0, 0.07, 0.14], atol=0.001)


def test_turned_and_anamorphic_video_as_pictures(tmp_path, lift):
    clip = make_video(tmp_path / "a.mp4", size=SIZE, frames=2, rotation=(90, False))
    code, err = lift(clip, "-o", tmp_path / "out")
    assert code == Exit.OK
    assert "turned by 90 degrees" in err
    assert size_of(tmp_path / "out/00001.png") == (96, 128)


@pytest.mark.parametrize("rate", ["1e-9", "1e9", "1e300", "0"])
def test_odd_rates_are_refused(tmp_path, lift, rate):
    code, err = lift(photo(tmp_path / "a.png"), "--rate", rate)
    assert code == Exit.USAGE
    assert "--rate" in err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--deinterlace"], Exit.OK),
        (["--deinterlace", "keep"], Exit.OK),
        (["--deinterlace", "True"], Exit.OK),
        (["--no-deinterlace"], Exit.BAD_INPUT),
    ],
)
def test_deinterlace_is_spelled_as_before_or_with_a_value(clips, lift, words, code):
    options = {"flags": "+ildct+ilme", "x264-params": "interlaced=1"}
    path = clips("flagged.mkv", options=options)
    for order in ([*words, path], [path, *words]):
        assert lift("--dry-run", *order)[0] == code
    assert lift("--dry-run", path)[0] == Exit.BAD_INPUT
