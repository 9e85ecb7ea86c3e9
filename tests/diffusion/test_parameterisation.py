"""ε, v, x₀ and flow: round trips, and agreement with diffusers."""

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from hypothesis import assume, given
from hypothesis import strategies as st

from framelift.diffusion.parameterisation import (
    add_noise,
    alpha_sigma,
    like,
    prediction_of,
    target,
    to_epsilon,
    to_x0,
)

KINDS = ("epsilon", "sample", "v_prediction", "flow_prediction")
SHAPES = ((3, 2, 4, 5), (3, 2, 4, 3, 3), (3, 7))


def fields(shape, seed: int = 0, count: int = 2):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


@given(
    st.sampled_from(KINDS),
    st.sampled_from(SHAPES),
    st.lists(st.floats(0.02, 0.98), min_size=3, max_size=3),
    st.integers(0, 99),
    st.booleans(),
)
def test_round_trip(kind, shape, levels, seed, is_flow):
    """What a perfect network returns implies the data and the noise, on either kind of way."""
    assume(not (is_flow and kind == "v_prediction"))  # v belongs to diffusions
    x0, noise = (x.double() for x in fields(shape, seed))
    sigma = torch.tensor(levels, dtype=torch.float64)
    alpha = 1 - sigma if is_flow else (1 - sigma**2).sqrt()
    x_t = add_noise(x0, noise, alpha, sigma)
    output = target(kind, x0, noise, alpha, sigma)
    torch.testing.assert_close(to_x0(kind, output, x_t, alpha, sigma), x0)
    torch.testing.assert_close(to_epsilon(kind, output, x_t, alpha, sigma), noise)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_batch_are_as_if_alone(kind):
    x0, noise = fields((3, 2, 4, 4))
    sigma = torch.tensor([0.1, 0.5, 0.9])
    alpha = (1 - sigma**2).sqrt()
    together = target(kind, x0, noise, alpha, sigma)
    for i in range(3):
        alone = target(kind, x0[i], noise[i], alpha[i], sigma[i])  # 0-d
        torch.testing.assert_close(together[i], alone)


def test_noise_and_velocity_are_those_of_diffusers():
    scheduler = DDPMScheduler(prediction_type="v_prediction", beta_schedule="scaled_linear")
    x0, noise = fields((4, 3, 5, 5))
    t = torch.tensor([0, 10, 500, 999])
    alpha, sigma = alpha_sigma(scheduler.alphas_cumprod, t)
    x_t = add_noise(x0, noise, alpha, sigma)
    torch.testing.assert_close(x_t, scheduler.add_noise(x0, noise, t))
    velocity = target(prediction_of(scheduler), x0, noise, alpha, sigma)
    torch.testing.assert_close(velocity, scheduler.get_velocity(x0, noise, t))


@pytest.mark.parametrize("kind", KINDS[:3])
@pytest.mark.parametrize("build", [DDPMScheduler, DDIMScheduler])
@pytest.mark.parametrize("t", [0, 300, 900])
def test_estimate_is_that_of_diffusers_step(build, kind, t):
    scheduler = build(prediction_type=kind, clip_sample=False)
    scheduler.set_timesteps(10)
    t = int(scheduler.timesteps[9 - t // 100])
    x_t, output = fields((2, 3, 4, 4))
    expected = scheduler.step(output, t, x_t).pred_original_sample
    alpha, sigma = alpha_sigma(scheduler.alphas_cumprod, t)
    made = to_x0(prediction_of(scheduler), output, x_t, alpha, sigma)
    torch.testing.assert_close(made, expected)


def test_flow_is_that_of_diffusers():
    scheduler = FlowMatchEulerDiscreteScheduler()
    assert prediction_of(scheduler) == "flow_prediction"
    assert prediction_of(EulerDiscreteScheduler()) == "epsilon"
    scheduler.set_timesteps(5)
    x0, noise = fields((1, 3, 4, 4))
    sigma = scheduler.sigmas[2]
    x_t = add_noise(x0, noise, 1 - sigma, sigma)
    torch.testing.assert_close(x_t, scheduler.scale_noise(x0, scheduler.timesteps[2:3], noise))
    output = target("flow_prediction", x0, noise, 1 - sigma, sigma)
    scheduler.set_begin_index(2)
    stepped = scheduler.step(output, scheduler.timesteps[2], x_t).prev_sample
    sigma = scheduler.sigmas[3]
    torch.testing.assert_close(stepped, add_noise(x0, noise, 1 - sigma, sigma))


def test_values_take_shape_and_precision_of_the_sample():
    x = torch.zeros(3, 2, 4, dtype=torch.bfloat16)
    assert like(torch.rand(3), x).shape == (3, 1, 1)
    assert like(torch.rand(3), x).dtype == torch.bfloat16
    assert like(torch.tensor(0.5), x).ndim == 0
