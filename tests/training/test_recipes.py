"""Recipes and their faults."""

import pytest

from framelift.errors import FrameliftError, InputError, UsageError
from framelift.training.settings import RECIPES, find_recipe, load_recipe

NAMES = sorted(path.stem for path in RECIPES.glob("*.toml"))


@pytest.mark.parametrize("name", NAMES)
def test_shipped_recipes_parse(name):
    settings = load_recipe(find_recipe(name))
    assert settings.data.sources
    named = bool(settings.data.holdout)
    assert named or all(source.holdout_split for source in settings.data.sources)
    assert settings.run.steps > 0
    assert settings.model or settings.init_from


def test_recipes_are_found_by_name_and_path(tmp_path):
    assert find_recipe(NAMES[0].replace("_", "-")) == RECIPES / f"{NAMES[0]}.toml"
    mine = tmp_path / "mine.toml"
    mine.write_text('method = "image_ldm"\nstage = "denoiser"\n')
    assert load_recipe(find_recipe(mine)).optim.lr == 1e-4
    with pytest.raises(InputError, match=NAMES[0]):
        find_recipe(NAMES[0][:-1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('method = "a"\nstage = "b"\n[optim]\nlearning_rate = 1', "'learning_rate'"),
        ('method = "a"\nstage = "b"\n[optim]\nwarm_up = 1', "Did you mean 'warmup'"),
        ('method = "a"\nstage = "b"\n[run]\nbatch = "many"', "must be of type int"),
        ('method = "a"\nstage = "b"\n[optim]\nbetas = [0.9]', "takes 2"),
        ('method = "a"\nstage = "b"\n[optim]\nschedule = "linear"', "constant, cosine"),
        ('method = "a"\nstage = "b"\n[data]\nsources = [{ stride = 2 }]', "glob"),
        ('method = "a"\n', "stage"),
        ("method = ", "not a readable recipe"),
    ],
)
def test_faulty_recipes(tmp_path, text, message):
    path = tmp_path / "faulty.toml"
    path.write_text(text)
    with pytest.raises(FrameliftError, match=message) as caught:
        load_recipe(path)
    assert isinstance(caught.value, UsageError | InputError)
    assert caught.value.remedy
