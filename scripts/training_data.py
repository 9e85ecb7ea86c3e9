"""Further training data for the bundled presets, from packages that anybody can fetch.

    python scripts/training_data.py DEBS bbb_720p.mp4 DATA

DEBS is a folder with the Debian packages gnome-backgrounds, mate-backgrounds, ukui-wallpapers,
lomiri-wallpapers-16.04, lomiri-wallpapers-20.04 and plasma-workspace-wallpapers, unpacked
(`dpkg -x`); bbb_720p.mp4 is Big Buck Bunny (CC-BY 3.0, Blender Foundation; docs/_static/medias of
moviepy 2.2.1's source distribution). Writes DATA/photos/*.jpg, of at most 1600 pixels a side, and
DATA/bbb/*.mp4, excerpts of about 4 seconds, cut at keyframes. Needs ffmpeg.
"""

import subprocess
import sys
from pathlib import Path

import cv2

SIDE, QUALITY = 1600, 93
EVERY, LENGTH, LAST = 25, 4, 560  # seconds
PHOTOS = """
Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly Infinite-Sea_by_Aury88 Kleiber_by_Lukas_Baubkus
Picture_0B_by_freespace Picture_1A_by_freespace Wine_by_Jakkub_Mede
aitzgorri_by_Aitzol_Berasategi analogpattern_by_Peter_Nerlich free_by_Peter_Nerlich
friends_by_Aitzol_Berasategi greentock_by_Peter_Nerlich life_by_Aitzol_Berasategi
picosdeeuropa_by_Aitzol_Berasategi seeding_by_Clements_Engelhardt sunset_by_Aitzol_Berasategi
gnome/grid-d gnome/grid-l gnome/licorice-l gnome/pixels-l gnome/wood-l
mate/abstract/Elephants mate/nature/Aqua mate/nature/Blinds mate/nature/Dune
mate/nature/FreshFlower mate/nature/Garden mate/nature/GreenMeadow mate/nature/LadyBird
mate/nature/RainDrops mate/nature/Storm mate/nature/TwoWings mate/nature/Wood
mate/nature/YellowFlower
Altai/5120x2880 Autumn/1280x1024 BytheWater/1280x1024 ColdRipple/1280x1024
ColorfulCups/2560x1600 EveningGlow/1280x1024 FallenLeaf/1280x1024 Flow/5120x2880
Grey/1280x1024 Kite/1280x1024 OneStandsOut/1280x1024 PastelHills/1280x1024 Path/1280x1024
SafeLanding/5120x2880 Shell/5120x2880 Volna/5120x2880 summer_1am/1280x1024
"""


def main() -> None:
    debs, film, data = (Path(argument) for argument in sys.argv[1:4])
    for name in ("photos", "bbb"):
        (data / name).mkdir(parents=True, exist_ok=True)
    for name in PHOTOS.split():
        write_photo(debs, name, data / "photos" / f"{name.replace('/', '_')}.jpg")
    for start in range(EVERY, LAST, EVERY):
        command = ["ffmpeg", "-v", "error", "-y", "-ss", str(start), "-t", str(LENGTH)]
        target = data / "bbb" / f"bbb_{start:03d}.mp4"
        subprocess.run(  # noqa: S603 - the command is ours
            [*command, "-i", film, "-an", "-c", "copy", target], check=True
        )


def write_photo(debs: Path, name: str, target: Path) -> None:
    """Find a picture by the end of its path, shrink it and save it."""
    folder, _, stem = name.rpartition("/")
    found = [
        f
        for f in sorted((debs / "usr/share").rglob(f"{stem}.*"))
        if folder in str(f.parent) and f.suffix in {".jpg", ".png", ".webp"}
    ]
    if not found:
        sys.exit(f"{name} is not below {debs}/usr/share")
    picture = cv2.imread(str(found[0]), cv2.IMREAD_COLOR)
    ratio = min(1.0, SIDE / max(picture.shape[:2]))
    size = [round(side * ratio) for side in picture.shape[1::-1]]
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    sampling = int(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    cv2.imwrite(str(target), small, options)


if __name__ == "__main__":
    main()
