"""One picture file: what it is, told from its header, and its pixels, upright and in sRGB.

Pillow reads headers and pixels of up to 8 bits and refuses files that are cut off; OpenCV reads
the pixels of deeper ones.
"""

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import (
    BmpImagePlugin,
    Image,
    ImageCms,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from framelift.errors import InputError, lacks_memory
from framelift.memory import check_memory

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
_READERS = (  # not Image.open: its limit of pixels is the same for every machine
    (b"\x89PNG", PngImagePlugin.PngImageFile),
    (b"\xff\xd8", JpegImagePlugin.JpegImageFile),
    (b"II*\0", TiffImagePlugin.TiffImageFile),
    (b"MM\0*", TiffImagePlugin.TiffImageFile),
    (b"BM", BmpImagePlugin.BmpImageFile),
    (b"RIFF", WebPImagePlugin.WebPImageFile),
)
_ORIENTATION = 0x112
_EXIF_IFD = 0x8769
_OF_THE_PIXELS = (0xA002, 0xA003)  # width and height
_OF_THE_FILE = (*range(0x100, 0x104), 0x106, 0x111, *range(0x115, 0x11A), 0x11C, 0x152, 0x153)
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    KeyError,
    IndexError,
    EOFError,
    TypeError,
    struct.error,
)


@dataclass(frozen=True)
class Still:
    """A picture's header. `width` and `height` are as stored: EXIF may still turn the picture.

    `animated` pictures show their `pictures` one after the other, others are pages. `profile` names
    a colour profile other than sRGB.
    """

    width: int
    height: int
    bit_depth: int
    pictures: int
    animated: bool
    profile: str = ""
    exif: bool = False
    """Whether tags besides the orientation describe the photo."""


def read_header(path: Path) -> Still:
    """What a picture file is; raises InputError if it is none or damaged."""
    with _opened(path) as image:
        pictures = getattr(image, "n_frames", 1)
        animated = pictures > 1 and image.format in ("PNG", "WEBP")
        depth = 16 if _is_deep(image) else 8
        profile = _profile_name(image)
        tags = Image.Exif()
        tags.load(image.info.get("exif", b""))  # getexif decodes a PNG to look behind its pixels
        described = bool(set(tags) - {_ORIENTATION})
    return Still(*image.size, depth, pictures, animated, profile, described)


def is_animation(path: Path) -> bool:
    """Whether a picture file holds a moving picture; False where it cannot be read."""
    try:
        return read_header(path).animated
    except InputError:
        return False


def read_still(path: Path) -> tuple[np.ndarray, bool]:
    """The (first) picture of a file, upright, and whether parts of it are transparent.

    RGB [H, W, 3], uint8, or uint16 over 0..65535 for files deeper than 8 bits. Raises InputError
    naming the file if it is damaged, NoRoomError if it would not fit in memory.
    """
    with _opened(path) as image:
        check_memory(path, *image.size)
        deep = _is_deep(image)
        image.load()  # refuses a file that is cut off
        if deep:
            return _read_deep(path)
        return _upright_rgb(image)


def read_animation(path: Path) -> Iterator[tuple[np.ndarray, int, bool]]:
    """The pictures of an animated file as `read_still` returns them, each with its time in ms."""
    with _opened(path) as image:
        check_memory(path, *image.size)
        time = 0
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            image.load()
            rgb, transparent = _upright_rgb(image)
            yield rgb, time, transparent
            time += max(1, round(image.info.get("duration", 0)))


def animation_length(path: Path) -> int:
    """How long an animated file shows its pictures, in ms."""
    with _opened(path) as image:
        total = 0
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            image.load()  # animated WebP knows a picture's time only then
            total += max(1, round(image.info.get("duration", 0)))
    return total


def read_tags(path: Path) -> tuple[bytes, str]:
    """The EXIF tags of a photo without what its pixels already follow; names of other tags."""
    with _opened(path) as image:
        exif = image.getexif()  # of PNG: only behind the pixels
        for tag in (_ORIENTATION, *_OF_THE_FILE):
            exif.pop(tag, None)
        for tag in _OF_THE_PIXELS:
            exif.get_ifd(_EXIF_IFD).pop(tag, None)
        other = ("XMP", "xmp"), ("XMP", "XML:com.adobe.xmp"), ("IPTC", "photoshop")
        names = {name: None for name, key in other if key in image.info}
        return (exif.tobytes() if len(exif) else b""), " and ".join(names)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities of tags
            head = stream.read(16)
            stream.seek(0)
            reader = next((kind for magic, kind in _READERS if head.startswith(magic)), None)
            if reader is None:
                raise InputError(f"{path} is not a readable image.", "Remove or replace it.")
            with reader(stream) as image:
                yield image
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.", "Check the name and the folder.") from None
    except PermissionError as error:
        raise InputError(f"{path} may not be read.", "Check its permissions.") from error
    except (*_DAMAGE, cv2.error) as error:
        if lacks_memory(error):
            raise
        told = " ".join(str(error).split()) or "it holds no picture"
        raise InputError(f"{path} is a damaged image: {told}.", "Remove or replace it.") from error


def _is_deep(image: Image.Image) -> bool:
    """Whether a file stores more than 8 bits a colour, which Pillow cuts off in RGB."""
    stored = " ".join(str(tile[3]) for tile in getattr(image, "tile", ()))
    return image.mode.startswith("I;16") or ";16" in stored


def _upright_rgb(image: Image.Image) -> tuple[np.ndarray, bool]:
    image = ImageOps.exif_transpose(image)
    transparent = False
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        transparent = int(np.asarray(rgba.getchannel("A")).min()) < 255
        image = rgba if image.mode in ("P", "PA") else image
    profile = image.info.get("icc_profile")
    if profile and _profile_name(image):
        image = _to_srgb(image, profile)
    return np.asarray(image.convert("RGB")), transparent


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        if image.mode not in ("RGB", "L", "CMYK"):
            image = image.convert("RGB")
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        made = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError):
        return image  # a profile of another kind of picture: what it says cannot be meant
    assert made is not None
    return made


def _profile_name(image: Image.Image) -> str:
    profile = image.info.get("icc_profile")
    if not profile:
        return ""
    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip()
    except (ImageCms.PyCMSError, OSError):
        return ""
    return "" if "srgb" in name.lower() else name or "unnamed"


def _read_deep(path: Path) -> tuple[np.ndarray, bool]:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    stored = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    upright = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if stored is None or upright is None:
        raise InputError(f"{path} is a damaged image.", "Remove or replace it.")
    opaque = stored.ndim < 3 or stored.shape[2] != 4 or stored[..., 3].min() == 65535
    return np.ascontiguousarray(upright[..., ::-1]), not opaque
