"""One sampling step that takes its noise as an argument, over the schedulers of diffusers.

A `Sampler` is a scheduler set to its steps; its tables are shared by all samples. A `Trajectory`
is the way of one sample (a batch that moves together), with what a multistep solver remembers of
it. The step itself is the scheduler's: what it would draw is taken from the caller instead, so
that no scheduler, whatever a folder names, reaches for a global generator.
"""

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from framelift.diffusion.parameterisation import Prediction, alpha_sigma, prediction_of, to_x0
from framelift.errors import UsageError

Draw = Callable[[], Tensor]
"""Standard normal noise of the shape of the sample; called only by a step that needs it."""


SPACED = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")
"""Options of diffusers' schedulers that place noise levels between the table's."""


class Sampler:
    """A scheduler set to `steps`, or to `timesteps` of one's own, from noisy to clean.

    `sigmas` are noise levels of one's own for schedulers of flows, before their shift. `eta` is the
    stochasticity of DDIM's steps: 0 as DDIM, 1 as DDPM. Raises UsageError where the scheduler knows
    no timesteps of one's own.
    """

    def __init__(
        self,
        scheduler: Any,
        steps: int,
        timesteps: Sequence[int] | None = None,
        eta: float = 0.0,
        sigmas: Sequence[float] | None = None,
    ) -> None:
        self.scheduler = copy.deepcopy(scheduler)
        self.prediction: Prediction = prediction_of(scheduler)
        if sigmas is None:
            _set_timesteps(self.scheduler, steps, timesteps)
        else:
            self.scheduler.set_timesteps(sigmas=list(sigmas))
        self.timesteps: tuple[int | float, ...] = tuple(self.scheduler.timesteps.tolist())
        self.eta = eta if "eta" in inspect.signature(scheduler.step).parameters else None
        if self.eta:
            # With noise the last step returns x̃₀, as DDPM's does, whatever DDIM's would end at.
            self.scheduler.final_alpha_cumprod = torch.tensor(1.0)
        last = getattr(self.scheduler, "final_alpha_cumprod", getattr(self.scheduler, "one", None))
        self._ends_clean = last is not None and bool(last == 1)
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(0)  # else timesteps are searched for at every start
        if hasattr(self.scheduler, "previous_timestep"):
            following = [*self.timesteps[1:], -1]
            before = dict(zip(self.timesteps, following, strict=True))
            self.scheduler.previous_timestep = before.__getitem__

    @property
    def ends_at_estimate(self) -> bool:
        """Whether the last step is known to return its x̃₀ as it is."""
        config = self.scheduler.config
        if config.get("clip_sample") or config.get("thresholding"):
            return False
        if "solver_order" in config:
            return config.get("final_sigmas_type") == "zero"
        return self._ends_clean

    def __len__(self) -> int:
        return len(self.timesteps)

    def begin(self, noise: Tensor) -> "Trajectory":
        """The way of the sample that starts at x_T = `noise`, standard normal."""
        return Trajectory(self, noise * getattr(self.scheduler, "init_noise_sigma", 1.0))

    def alpha_sigma(self, index: int) -> tuple[Tensor, Tensor]:
        """α and σ of a step's network input, 0-d, on the CPU."""
        t = self.timesteps[index]
        if self.prediction == "flow_prediction":
            sigma = self.scheduler.sigmas[index]
            return 1 - sigma, sigma
        if isinstance(t, int) and not any(self.scheduler.config.get(name) for name in SPACED):
            return alpha_sigma(self.scheduler.alphas_cumprod, t)
        ratio = self.scheduler.sigmas[index]  # σ/α
        alpha = (ratio.square() + 1).rsqrt()
        return alpha, ratio * alpha


class Trajectory:
    """One sample's way: x_t, how many steps it took, and what a multistep solver remembers."""

    def __init__(self, sampler: Sampler, x_t: Tensor) -> None:
        self.sampler, self.x_t, self.steps = sampler, x_t, 0
        self._scheduler = copy.copy(sampler.scheduler)  # tables are shared, histories are not
        for name, value in vars(self._scheduler).items():
            if isinstance(value, list):
                setattr(self._scheduler, name, list(value))

    @property
    def t(self) -> int | float:
        """The timestep of the next step."""
        return self.sampler.timesteps[self.steps]

    @property
    def finished(self) -> bool:
        return self.steps == len(self.sampler)

    def network_input(self) -> Tensor:
        """x_t as the network sees it (some schedulers scale it)."""
        if not hasattr(self._scheduler, "scale_model_input"):
            return self.x_t
        return self._scheduler.scale_model_input(self.x_t, self.t)

    def estimate(self, output: Tensor) -> Tensor:
        """x̃₀ that the network's `output` for `network_input()` implies."""
        alpha, sigma = self.sampler.alpha_sigma(self.steps)
        return to_x0(self.sampler.prediction, output, self.network_input(), alpha, sigma)

    def step(self, output: Tensor, draw: Draw) -> None:
        """Go from x_t to the next noise level, with the network's `output` for this one.

        `draw` gives the step's noise. Raises UsageError where the scheduler wants other random
        numbers than one normal field.
        """
        options = {} if self.sampler.eta is None else {"eta": self.sampler.eta}
        with _GivenNoise(draw, self.x_t, type(self._scheduler).__name__):
            made = self._scheduler.step(output, self.t, self.x_t, return_dict=False, **options)
        self.x_t, self.steps = made[0], self.steps + 1


def _set_timesteps(scheduler: Any, steps: int, timesteps: Sequence[int] | None) -> None:
    if timesteps is None:
        scheduler.set_timesteps(steps)
        return
    if "timesteps" not in inspect.signature(scheduler.set_timesteps).parameters:
        raise UsageError(
            f"{type(scheduler).__name__} takes no timesteps of one's own, here {list(timesteps)}.",
            "Set a number of steps, or use DPMSolverMultistepScheduler.",
        )
    scheduler.set_timesteps(timesteps=list(timesteps))


OTHER_DRAWS = (
    torch.Tensor.normal_,
    torch.rand,
    torch.rand_like,
    torch.randint,
    torch.randint_like,
    torch.randperm,
    torch.normal,
    torch.bernoulli,
    torch.multinomial,
)


class _GivenNoise(TorchFunctionMode):
    """Answers what a scheduler's step draws with the caller's noise, once."""

    def __init__(self, draw: Draw, x_t: Tensor, name: str) -> None:
        super().__init__()
        self.draw, self.x_t, self.name, self.drawn = draw, x_t, name, False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in (torch.randn, torch.randn_like):
            if func in OTHER_DRAWS:
                self.refuse()
            return func(*args, **kwargs)
        wanted = args[0].shape if func is torch.randn_like else args[0] if args else kwargs["size"]
        if self.drawn or not isinstance(wanted, tuple | list) or tuple(wanted) != self.x_t.shape:
            self.refuse()
        self.drawn = True
        noise = self.draw()
        assert noise.shape == self.x_t.shape
        return noise.to(self.x_t.device, kwargs.get("dtype") or self.x_t.dtype)

    def refuse(self) -> None:
        raise UsageError(
            f"{self.name} draws random numbers that cannot be tied to a place in the video.",
            "Use DDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler or an Euler scheduler.",
        )
