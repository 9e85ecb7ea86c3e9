"""Pictures as input and output: upright, in their colours, with all their frames."""

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from support import make_video, patches

from framelift import memory
from framelift.errors import InputError, NoRoomError, UsageError
from framelift.video import picture
from framelift.video.images import ImageWriter, assemble_images, baked_in
from framelift.video.probe import probe
from framelift.video.read import VideoReader

RGB = patches(0, (32, 48))
ORIENTATIONS = {  # EXIF's numbers as what has to be done to the stored picture
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


def frames_of(path, **settings):
    reader = VideoReader(path, **settings)
    return [(f.pts * reader.info.time_base, f.rgb()) for f in reader], reader


def save(path: Path, mode: str = "RGB", **options) -> Path:
    Image.fromarray(RGB).convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize("number", ORIENTATIONS)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_photos_are_read_upright(tmp_path, number, suffix):
    exif = Image.Exif()
    exif[0x112] = number
    lossless = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}
    path = save(tmp_path / f"a.{suffix}", exif=exif, **lossless.get(suffix, {}))
    [(_, rgb)], reader = frames_of(path)
    expected = ORIENTATIONS[number](RGB)
    assert (reader.info.height, reader.info.width) == expected.shape[:2]
    assert np.abs(rgb.astype(int) - expected).mean() < 2


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("grey", [False, True])
def test_sixteen_bits_are_kept(tmp_path, suffix, grey):
    deep = (RGB.astype(np.uint16) * 257) ^ 5
    stored = deep[..., 0] if grey else deep[..., ::-1]
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), stored)
    [(_, rgb)], reader = frames_of(tmp_path / f"a.{suffix}")
    assert reader.info.bit_depth == 16
    np.testing.assert_array_equal(rgb, np.repeat(deep[..., :1], 3, 2) if grey else deep)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *(("a.png", mode) for mode in ("L", "P", "1", "LA")),
        *(("a.tif", mode) for mode in ("P", "CMYK")),
        *(("a.jpg", "CMYK"), ("a.jpg", "L"), ("a.bmp", "P"), ("a.webp", "RGBA")),
    ],
)
def test_opaque_pictures_of_every_kind_keep_their_colours(tmp_path, name, mode):
    image = Image.fromarray(RGB).convert(mode)
    best = {"a.jpg": {"quality": 100, "subsampling": 0}, "a.webp": {"lossless": True}}
    image.save(tmp_path / name, **best.get(name, {}))
    [(_, rgb)], reader = frames_of(tmp_path / name)
    assert np.abs(rgb.astype(int) - np.asarray(image.convert("RGB"))).mean() < 2
    assert not reader.info.alpha
    assert reader.report.warnings == []


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_transparency_is_told_once_wherever_it_begins(tmp_path, name):
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    for number in range(3):
        rgba[:4, :4, 3] = 255 if number == 0 else 10
        Image.fromarray(rgba).save(tmp_path / f"{number}{name}")
    _, reader = frames_of(tmp_path)
    assert not reader.info.alpha
    assert sum("transparency" in w for w in reader.report.warnings) == 1
    assert probe(tmp_path / f"2{name}").alpha


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_animated_pictures_give_all_frames_at_their_times(tmp_path, name):
    pictures = [Image.fromarray(patches(n, (32, 48))) for n in range(5)]
    lasts = [40, 80, 40, 200, 100]
    options = {"lossless": True} if name.endswith("webp") else {}
    pictures[0].save(
        tmp_path / name, save_all=True, append_images=pictures[1:], duration=lasts, **options
    )
    found, reader = frames_of(tmp_path / name)
    assert len(found) == 5
    assert reader.info.frames in (None, 5)
    times = [float(time - found[0][0]) for time, _ in found]
    np.testing.assert_allclose(times, np.cumsum([0, *lasts[:-1]]) / 1000, atol=0.001)
    for n, (_, rgb) in enumerate(found):
        np.testing.assert_array_equal(rgb, patches(n, (32, 48)))


def test_animation_among_other_pictures_is_told(tmp_path):
    pictures = [Image.fromarray(patches(n, (32, 48))) for n in range(3)]
    for n in range(2):
        pictures[0].save(tmp_path / f"{n}.png", save_all=True, append_images=pictures[1:])
    found, reader = frames_of(tmp_path)
    assert len(found) == 2
    assert any("first of the 3 pictures" in w for w in reader.report.warnings)


def test_other_profiles_are_converted_to_srgb(tmp_path):
    from PIL import ImageCms

    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ"))
    path = save(tmp_path / "a.png", icc_profile=lab.tobytes())
    _, reader = frames_of(path)  # a profile that cannot be meant does no harm
    assert any("XYZ" in w for w in reader.info.warnings)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    [(_, rgb)], reader = frames_of(save(tmp_path / "b.png", icc_profile=srgb.tobytes()))
    np.testing.assert_array_equal(rgb, RGB)
    assert reader.report.warnings == []


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp"])
def test_pictures_that_are_cut_off_are_named(tmp_path, suffix):
    whole = save(tmp_path / f"whole.{suffix}")
    for part in (4, 20, whole.stat().st_size // 2, whole.stat().st_size - 30):
        path = tmp_path / f"cut.{suffix}"
        path.write_bytes(whole.read_bytes()[:part])
        with pytest.raises(InputError, match=f"cut.{suffix}"):
            frames_of(path)


def test_names_with_other_digits_are_sorted(tmp_path):
    for name in ("1²2.png", "1²10.png", "x٣.png", "²3.png"):
        save(tmp_path / name)
    found, _ = frames_of(tmp_path)
    assert len(found) == 4


@pytest.mark.parametrize("name", ["big.gif", "big.png", "big.tif", "big.jpg", "big.mkv"])
def test_pictures_beyond_memory_are_refused_from_their_header(tmp_path, monkeypatch, name):
    path = tmp_path / name
    if name.endswith("mkv"):
        make_video(path, frames=2, size=(480, 640))
    else:
        Image.new("L", (640, 480)).save(path)
    monkeypatch.setattr(memory, "free_memory", lambda: 640 * 480 * memory.BYTES_PER_PIXEL - 1)
    with pytest.raises(NoRoomError, match="640x480"):
        probe(path)
    monkeypatch.setattr(memory, "free_memory", lambda: 640 * 480 * memory.BYTES_PER_PIXEL + 1)
    assert probe(path).width == 640
    with pytest.raises(NoRoomError, match="enlarged"):
        probe(path, scale=4)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="runs where ffmpeg is: it judges")
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_turned_video_becomes_upright_pictures(tmp_path, degrees, mirrored):
    turn = (degrees, mirrored)
    path = make_video(tmp_path / "a.mp4", frames=1, size=(32, 48), picture=patches, rotation=turn)
    [(_, rgb)], reader = frames_of(path)
    height, width, said = baked_in(reader.info, 32, 48)
    assert bool(said) == (turn != (0, False))
    writer = ImageWriter(tmp_path / "part", width=width, height=height, info=reader.info)
    writer.write(rgb, 0, 1)
    assemble_images([writer.close()], tmp_path / "out")
    made = np.asarray(Image.open(tmp_path / "out/00001.png"))
    subprocess.run(["ffmpeg", "-v", "error", "-i", path, tmp_path / "x.png"], check=True)
    shown = np.asarray(Image.open(tmp_path / "x.png").convert("RGB"))
    assert made.shape == shown.shape
    assert np.abs(made.astype(int) - shown).mean() < 3


def test_pixels_of_pictures_become_square(clips):
    info = probe(clips("wide.mkv", frames=1, sar=Fraction(16, 11)))
    height, width, said = baked_in(info, 576, 704)
    assert (height, width) == (576, 1024)
    assert "16/11" in said[0]
    info = probe(clips("turned.mp4", frames=1, sar=Fraction(16, 11), rotation=(90, False)))
    assert baked_in(info, 576, 704)[:2] == (396, 704)
    assert baked_in(probe(clips("cfr.mp4")), 576, 704) == (576, 704, [])


def one_segment(folder: Path, source: Path, rgb: np.ndarray):
    info = probe(source)
    writer = ImageWriter(folder / "part", width=rgb.shape[1], height=rgb.shape[0], info=info)
    writer.write(rgb, 0, 1)
    return [writer.close()]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp"])
def test_one_picture_in_every_format(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x112], exif[0x110] = 6, "Camera"
    source = save(tmp_path / "a.jpg", exif=exif)
    output = tmp_path / f"b.{suffix}"
    warnings = []
    picture.assemble_picture(
        one_segment(tmp_path, source, RGB), output, source, lambda part, w: warnings.extend(w)
    )
    made = Image.open(output)
    assert np.abs(np.asarray(made.convert("RGB")).astype(int) - RGB).mean() < 4
    if suffix in ("jpg", "png", "webp"):
        made.load()
        assert made.getexif().get(0x110) == "Camera"
        assert 0x112 not in made.getexif()  # it is upright now
        assert warnings == []
    else:
        assert "EXIF" in warnings[0]


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_one_deep_picture(tmp_path, suffix):
    deep = (RGB.astype(np.uint16) * 257) ^ 5
    cv2.imwrite(str(tmp_path / "a.png"), deep[..., ::-1])
    source, output = tmp_path / "a.png", tmp_path / f"b.{suffix}"
    said = picture.check_picture(output, source, probe(source), 1, (32, 48))
    assert bool(said) == (suffix == "jpg")
    picture.assemble_picture(one_segment(tmp_path, source, deep), output, source)
    if suffix == "jpg":
        assert np.abs(np.asarray(Image.open(output)).astype(int) - RGB).mean() < 4
    else:
        [(_, rgb)], _ = frames_of(output)
        np.testing.assert_array_equal(rgb, deep)


def test_what_one_picture_cannot_hold(tmp_path):
    source = save(tmp_path / "a.png")
    info = probe(source)
    with pytest.raises(UsageError, match="24 frames"):
        picture.check_picture(tmp_path / "b.png", source, info, 24, (32, 48))
    with pytest.raises(UsageError, match="pattern"):
        picture.check_picture(tmp_path / "%05d.png", source, info, 24, (32, 48))
    with pytest.raises(UsageError, match="20000x10"):
        picture.check_picture(tmp_path / "b.webp", source, info, 1, (10, 20000))
