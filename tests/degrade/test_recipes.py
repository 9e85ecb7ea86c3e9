"""Recipe files and their faults."""

import subprocess
import sys

import pytest

from framelift.degrade import load_recipe, recipe_names
from framelift.degrade.recipe import describe
from framelift.errors import FrameliftError, InputError, UsageError
from framelift.files import to_json


def test_shipped_recipes():
    assert recipe_names() == (
        *("bd", "bi", "compressed", "mild"),
        *("realesrgan", "realworld", "shake", "vdm_vsr"),
    )
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert recipe.description
        assert '"op"' in to_json(describe(recipe))
    assert load_recipe("vdm-vsr") == load_recipe("vdm_vsr.toml")


def test_realworld_has_the_published_ranges():
    stages = describe(load_recipe("realworld"))["stages"]
    assert [s["op"] for s in stages] == [
        *("blur", "resize", "noise", "jpeg", "codec"),
        *("blur", "resize", "noise", "jpeg", "shuffle"),
    ]
    assert stages[0]["sigma"] == (0.2, 3.0)
    assert stages[5]["probability"] == 0.8
    assert (stages[1]["factor"], stages[6]["factor"]) == ((0.15, 1.5), (0.3, 1.2))
    assert (stages[2]["sigma"], stages[7]["sigma"]) == ((1, 30), (1, 25))
    assert stages[3]["quality"] == (30, 95)
    assert stages[4]["bit_rate"] == (1e4, 1e5)
    assert [s["op"] for s in stages[9]["second"]] == ["resize", "blur"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[stages]]\nop = "blurr"', "stages 1 has an unknown op 'blurr'. Did you mean 'blur'"),
        ("[[stages]]\nsigma = [1, 2]", "stages 1 has no op"),
        ('[[stages]]\nop = "blur"\nsigmas = [1.0, 2.0]', "Did you mean 'sigma'"),
        ('[[stages]]\nop = "blur"\nsigma = [2.0, 1.0]', "low end comes first"),
        ('[[stages]]\nop = "blur"\nsigma = 2.0', "a list"),
        ('[[stages]]\nop = "blur"\nsigma = ["a", "b"]', "must be of type float"),
        ('[[stages]]\nop = "blur"\nsizes = [4]', "odd numbers"),
        ('[[stages]]\nop = "blur"\nsizes = [100001]', "up to 255"),
        ('[[stages]]\nop = "noise"\nkinds = 3', "a table"),
        ('[[stages]]\nop = "blur"\nkernels = { isso = 1.0 }', "kernels names isso"),
        ('[[stages]]\nop = "blur"\nkernels = { iso = -1.0 }', "weights"),
        ('[[stages]]\nop = "jpeg"\nquality = [0, 200]', "1 to 100"),
        ('[[stages]]\nop = "noise"\nprobability = 1.5', "must lie in 0 to 1"),
        ('[[stages]]\nop = "codec"', "bit_rate or crf"),
        ('[[stages]]\nop = "codec"\ncrf = [20, 30]\ncodecs = { xvid = 1.0 }', "xvid"),
        ('[[stages]]\nop = "shuffle"\n[[stages.first]]\nop = "jpg"', "first 1 has an unknown op"),
        ('[[stage]]\nop = "blur"', "has no stages"),
        ('[[stages]]\nop = "stride"\n[extra]\na = 1', "unknown setting 'extra'"),
        ('stages = "blur"', "list of tables"),
        ('scale = 0\n[[stages]]\nop = "stride"', "scale is 0"),
        ("stages = ", "not a readable degradation recipe"),
    ],
)
def test_faulty_recipes(tmp_path, text, message):
    path = tmp_path / "faulty.toml"
    path.write_text(text)
    with pytest.raises(FrameliftError) as caught:
        load_recipe(path)
    assert isinstance(caught.value, UsageError | InputError)
    assert message in str(caught.value)
    assert str(path) in caught.value.problem
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("name", "hint"), [("realwrld", "'realworld'"), ("x/y.toml", "bi, compressed")]
)
def test_missing_recipes(name, hint):
    with pytest.raises(InputError, match="no degradation recipe") as caught:
        load_recipe(name)
    assert hint in caught.value.remedy


def test_recipes_load_no_torch():
    code = (
        "import sys, framelift.degrade.stages as stages\n"
        "from framelift.degrade import load_recipe\n"
        "load_recipe('realworld'); stages.observe.Observation(4); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
