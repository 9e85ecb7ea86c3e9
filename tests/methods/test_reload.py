"""Pipelines saved by us and by diffusers load again, in a process that knows nothing of them."""

import os
import subprocess
import sys

from diffusers import DPMSolverMultistepScheduler, StableDiffusionUpscalePipeline
from safetensors.torch import load_file, save_file

from framelift.diffusion.block_transform import BlockTransformCodec
from framelift.methods.image_ldm.pipeline import ImageLDMPipeline
from framelift.methods.image_ldm.settings import ImageLDMSettings

PROGRAM = """
import sys
from safetensors.torch import load_file, save_file
import framelift
from framelift.methods.image_ldm.settings import ImageLDMSettings

clip = load_file("clip.safetensors")["clip"]
made = {}
for folder in sys.argv[1:]:
    pipeline = framelift.load(folder)
    made[folder] = pipeline(clip, settings=ImageLDMSettings(steps=3))
    assert pipeline.unet.training is False
from framelift.methods.image_ldm.pipeline import ImageLDMPipeline
again = ImageLDMPipeline.from_pretrained("bundled")
made["as diffusers users do"] = again(clip, settings=ImageLDMSettings(steps=3))
save_file({k: v.contiguous() for k, v in made.items()}, "made.safetensors")
"""


def test_equal_in_a_fresh_process(components, small_unet, clip, tmp_path):
    codec = BlockTransformCodec()
    scheduler = DPMSolverMultistepScheduler(prediction_type="v_prediction")
    bundled = ImageLDMPipeline(codec, small_unet, scheduler, timesteps=[900, 500, 100], steps=3)
    ours = ImageLDMPipeline(**components)
    bundled.save_pretrained(tmp_path / "bundled")
    ours.save_pretrained(tmp_path / "ours")
    StableDiffusionUpscalePipeline(**components).save_pretrained(tmp_path / "diffusers")
    save_file({"clip": clip}, tmp_path / "clip.safetensors")

    names = ["bundled", "ours", "diffusers"]
    subprocess.run(
        [sys.executable, "-c", PROGRAM, *names],
        cwd=tmp_path,
        check=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )

    made = load_file(tmp_path / "made.safetensors")
    settings = ImageLDMSettings(steps=3)
    expected = {
        "bundled": bundled(clip, settings=settings),
        "ours": ours(clip, settings=settings),
    }
    expected |= {"diffusers": expected["ours"], "as diffusers users do": expected["bundled"]}
    for name, frames in expected.items():
        difference = (made[name] - frames).abs().max()
        assert difference < 1e-5, f"{name} differs by {difference}"
