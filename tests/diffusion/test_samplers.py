"""Steps with noise from outside: parity with diffusers' own, one history a sample, no own draws."""

import copy
import importlib
import inspect

import diffusers
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LMSDiscreteScheduler,
    UniPCMultistepScheduler,
)

from framelift.diffusion.samplers import Sampler
from framelift.errors import UsageError

SHAPE = (1, 4, 3, 5)
V = {"prediction_type": "v_prediction"}
PLAIN = {"clip_sample": False, **V}


def dpm(order: int, kind: str = "dpmsolver++", **options):
    return DPMSolverMultistepScheduler(solver_order=order, algorithm_type=kind, **V, **options)


SCHEDULERS = {
    "ddpm": DDPMScheduler(**PLAIN),
    "ddpm fixed_large": DDPMScheduler(variance_type="fixed_large", **PLAIN),
    "ddpm fixed_small_log": DDPMScheduler(variance_type="fixed_small_log", **PLAIN),
    "ddpm learned_range": DDPMScheduler(variance_type="learned_range", clip_sample=False),
    "ddpm clipped, trailing": DDPMScheduler(timestep_spacing="trailing"),
    "ddim": DDIMScheduler(**PLAIN, steps_offset=1, set_alpha_to_one=False),
    "ddim thresholded": DDIMScheduler(thresholding=True, **V),
    **{f"dpm++ {n}": dpm(n) for n in (1, 2, 3)},
    **{f"sde-dpm++ {n}": dpm(n, "sde-dpmsolver++") for n in (1, 2)},
    "dpm++ karras": dpm(2, use_karras_sigmas=True),
    "euler": EulerDiscreteScheduler(**V),
    "euler epsilon, trailing": EulerDiscreteScheduler(timestep_spacing="trailing"),
    "euler ancestral": EulerAncestralDiscreteScheduler(**V),
    "lms": LMSDiscreteScheduler(),
    "unipc": UniPCMultistepScheduler(**V),
    "flow": FlowMatchEulerDiscreteScheduler(shift=3.0),
    "flow, stochastic": FlowMatchEulerDiscreteScheduler(stochastic_sampling=True),
}


class Fields:
    """The same noise for every step, here and there; a list of the shapes that were asked for."""

    def __init__(self, seed: int = 1) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.asked: list[tuple[int, ...]] = []

    def draw(self) -> torch.Tensor:
        self.asked.append(SHAPE)
        return torch.randn(SHAPE, generator=self.generator)

    def randn_tensor(self, shape, generator=None, device=None, dtype=None, layout=None):
        """In the place of diffusers' function of that name."""
        self.asked.append(tuple(shape))
        return torch.randn(shape, generator=self.generator).to(dtype)


def network(scheduler, index: int, x: torch.Tensor) -> torch.Tensor:
    """Some deterministic output that depends on the input; with a variance where one is learned."""
    output = torch.tanh(x + 0.1 * index)
    if scheduler.config.get("variance_type") == "learned_range":
        return torch.cat([output, x.flip(-1).clamp(-1, 1)], dim=1)
    return output


def theirs(scheduler, steps: int, monkeypatch, **options) -> tuple[torch.Tensor, Fields]:
    """diffusers' own loop."""
    own, fields = copy.deepcopy(scheduler), Fields()
    module = importlib.import_module(type(own).__module__)
    if hasattr(module, "randn_tensor"):
        monkeypatch.setattr(module, "randn_tensor", fields.randn_tensor)
    own.set_timesteps(steps)
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    x = x * getattr(own, "init_noise_sigma", 1)
    for i, t in enumerate(own.timesteps):
        scaled = own.scale_model_input(x, t) if hasattr(own, "scale_model_input") else x
        x = own.step(network(own, i, scaled), t, x, **options).prev_sample
    monkeypatch.undo()
    return x, fields


def ours(scheduler, steps: int, eta: float = 0.0) -> tuple[torch.Tensor, Fields]:
    sampler, fields = Sampler(scheduler, steps, eta=eta), Fields()
    way = sampler.begin(torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)))
    for i in range(len(sampler)):
        way.step(network(scheduler, i, way.network_input()), fields.draw)
    return way.x_t, fields


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 5, 20])
def test_equals_diffusers_with_the_same_noise(name, steps, monkeypatch):
    scheduler = SCHEDULERS[name]
    expected, drawn = theirs(scheduler, steps, monkeypatch)
    state = torch.get_rng_state()
    made, asked = ours(scheduler, steps)
    assert torch.equal(torch.get_rng_state(), state)  # nothing was drawn from the global generator
    torch.testing.assert_close(made, expected, atol=1e-6, rtol=0)
    assert asked.asked == drawn.asked


def test_ddim_with_eta_equals_diffusers(monkeypatch):
    scheduler = DDIMScheduler(**PLAIN)
    expected, drawn = theirs(scheduler, 6, monkeypatch, eta=0.7)
    made, asked = ours(scheduler, 6, eta=0.7)
    assert torch.equal(made, expected)
    assert len(asked.asked) == len(drawn.asked) == 6


@pytest.mark.parametrize("set_alpha_to_one", [False, True])
def test_ddim_with_eta_one_is_ddpm_to_its_end(set_alpha_to_one):
    """Also where the folder's scheduler would end its deterministic way at t = 0."""
    common = {**PLAIN, "steps_offset": 1}
    ddim = DDIMScheduler(**common, set_alpha_to_one=set_alpha_to_one)
    made, _ = ours(ddim, 6, eta=1.0)
    expected, _ = ours(DDPMScheduler(**common, timestep_spacing="leading"), 6)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_samples_that_take_turns_do_not_disturb_each_other(name):
    """Frame-wise sampling: every sample has a history of its own, the tables are shared."""
    scheduler = SCHEDULERS[name]
    sampler = Sampler(scheduler, 5)
    starts = [torch.randn(SHAPE, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    noises = [Fields(seed=i) for i in range(3)]
    ways = [sampler.begin(x) for x in starts]
    for i in range(len(sampler)):
        for way, noise in zip(ways, noises, strict=True):
            way.step(network(scheduler, i, way.network_input()), noise.draw)
    for k, way in enumerate(ways):
        alone, noise = Sampler(scheduler, 5).begin(starts[k]), Fields(seed=k)
        for i in range(len(sampler)):
            alone.step(network(scheduler, i, alone.network_input()), noise.draw)
        assert torch.equal(way.x_t, alone.x_t)
    tables = ("alphas_cumprod", "sigmas", "timesteps")
    for table in (n for n in tables if hasattr(sampler.scheduler, n)):
        assert getattr(ways[0]._scheduler, table) is getattr(ways[1]._scheduler, table)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_estimate_of_a_perfect_network_is_the_data(name):
    """x̃₀ from what the network sees and returns, on the scheduler's own scale of noise."""
    scheduler = SCHEDULERS[name]
    sampler = Sampler(scheduler, 7)
    x0, noise = (torch.randn(SHAPE, generator=torch.Generator().manual_seed(i)) for i in (3, 4))
    way = sampler.begin(noise)
    from framelift.diffusion.parameterisation import add_noise, target

    for i in range(len(sampler)):
        alpha, sigma = sampler.alpha_sigma(i)
        seen = add_noise(x0, noise, alpha, sigma)
        way.x_t = seen  # as the network sees it; brought to the scheduler's scale
        way.x_t = seen * (seen / way.network_input()).mean()
        torch.testing.assert_close(way.network_input(), seen, atol=1e-4, rtol=1e-4)
        output = target(sampler.prediction, x0, noise, alpha, sigma)
        torch.testing.assert_close(way.estimate(output), x0, atol=2e-3, rtol=1e-3)
        way.steps += 1
        if getattr(way._scheduler, "_step_index", None) is not None:
            way._scheduler._step_index += 1


def test_last_step_returns_its_estimate_where_that_is_said():
    for scheduler, said in (
        (DDPMScheduler(**PLAIN), True),
        (DDIMScheduler(**PLAIN), True),
        (DDIMScheduler(**PLAIN, set_alpha_to_one=False), False),
        (dpm(2, final_sigmas_type="zero"), True),
        (dpm(2, final_sigmas_type="sigma_min"), False),
        (DDPMScheduler(), False),
    ):
        sampler = Sampler(scheduler, 4)
        assert sampler.ends_at_estimate is said
        way = sampler.begin(torch.randn(SHAPE))
        estimate = way.x_t
        for i in range(len(sampler)):
            output = network(scheduler, i, way.network_input())
            estimate = way.estimate(output)
            way.step(output, Fields().draw)
        assert way.finished
        assert torch.allclose(way.x_t, estimate, atol=1e-6) == said


def test_own_timesteps():
    sampler = Sampler(dpm(2), 3, [999, 600, 200])
    assert sampler.timesteps == (999, 600, 200)
    assert Sampler(DDPMScheduler(), 3, [999, 600, 200]).timesteps == (999, 600, 200)
    with pytest.raises(UsageError, match="DDIMScheduler takes no timesteps"):
        Sampler(DDIMScheduler(), 3, [999, 600, 200])


def test_the_given_scheduler_is_left_alone():
    scheduler = dpm(2)
    before = {k: v for k, v in vars(scheduler).items() if not isinstance(v, torch.Tensor)}
    ours(scheduler, 4)
    after = {k: v for k, v in vars(scheduler).items() if not isinstance(v, torch.Tensor)}
    assert before == after


class TwiceDrawing(DDPMScheduler):
    """A scheduler of the user's that wants two fields for a step."""

    def step(self, *args, **named):
        torch.randn(SHAPE)
        return super().step(*args, **named)


class IndexDrawing(DDPMScheduler):
    """One whose random numbers are not tied to a place."""

    def step(self, *args, **named):
        torch.randint(10, (1,))
        return super().step(*args, **named)


@pytest.mark.parametrize("kind", [TwiceDrawing, IndexDrawing])
def test_draws_that_cannot_be_given_are_refused(kind):
    with pytest.raises(UsageError, match=f"{kind.__name__} draws random numbers"):
        ours(kind(**PLAIN), 3)


def test_no_scheduler_of_diffusers_draws_from_the_global_generator():
    """Each either runs with the noise it is given, or is refused by name."""
    ran = 0
    for name in dir(diffusers):
        kind = getattr(diffusers, name)
        if not name.endswith("Scheduler") or not inspect.isclass(kind):
            continue
        try:
            scheduler = kind()
        except (ImportError, TypeError, AttributeError):
            continue
        state = torch.get_rng_state()
        try:
            made, _ = ours(scheduler, 3)
            ran += torch.is_tensor(made)
        except Exception:
            pass
        assert torch.equal(torch.get_rng_state(), state), name
    assert ran > 15
