"""Settings of the interleaved loop, and the times and noise levels that follow from them."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, get_args

from annotated_types import Interval
from torch import Tensor

from midms.diffusion.schedule import Schedule, TimestepRule, ddim_timesteps
from midms.diffusion.solvers import Solver
from midms.matching.confidence import MaskForm
from midms.schema import Count, Natural, NonNegative, Share

#: T of a reverse process.
Steps = Annotated[int, Interval(ge=1, le=100_000)]
RewarpRule = Literal["every", "first_two", "none"]
NoiseLevel = Literal["tau_n", "one_above"]
RefineModel = Literal["pretrained", "finetuned"]


@dataclass(frozen=True)
class InterleaveSettings:
    """All settings of Algorithm 1. With the networks and the noise they determine a run.

    The defaults are the paper's headline run. `paper()`, `released()` and `fast()` are presets, and `replace` makes
    variants. The paper's ablations are:

    - Table 3: `mask_form="none"`, `rewarp="none"`, or `num_interleaved_steps=0` (no diffusion: the warp is the result).
    - Table 4: the noise level, `num_interleaved_steps` / `num_inference_steps`.
    - Table 7: both numbers of steps.
    """

    num_inference_steps: Steps = 200  # T: steps of the whole reverse process
    num_interleaved_steps: Natural = 50  # N: U-Net calls of the loop, the last N of the T
    timesteps: TimestepRule = "paper"  # choice of the T times, see `ddim_timesteps`
    noise_level: NoiseLevel = "tau_n"  # noise of the warp: at the time of the first call, or one step above it
    threshold: NonNegative = 0.3  # gamma of Eq. 10
    mask_form: MaskForm = "paper"  # see `cycle_consistency_mask`
    rewarp: RewarpRule = "every"  # after which calls: every n = N..2, only n = N and N - 1, or none
    rewarp_interval: Count = 1  # only every k-th of these calls, counted from n = N
    skip_last_warp: bool = True  # no re-warp after call n = 2 (paper's appendix)
    solver: Solver = "ddim"  # see `midms.diffusion.solvers`
    clamp_cosines: bool = False  # set negative cosines to 0 before the softmax, as released (dense matching)
    refine_steps: Natural = 20  # U-Net calls of the refinement; 0: no refinement
    refine_num_inference_steps: Steps = 200  # T of the refinement
    refine_eta: Share = 1.0
    refine_model: RefineModel = "pretrained"  # refine with the LDM before or after fine-tuning

    def __post_init__(self) -> None:
        for name, rule in _CHOICES.items():
            if getattr(self, name) not in get_args(rule):
                expected = ", ".join(get_args(rule))
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected one of {expected}")
        _check_steps(
            "num_interleaved_steps", self.num_interleaved_steps, "num_inference_steps", self.num_inference_steps
        )
        _check_steps("refine_steps", self.refine_steps, "refine_num_inference_steps", self.refine_num_inference_steps)
        if self.rewarp_interval < 1:
            raise ValueError(f"rewarp_interval: got {self.rewarp_interval}, expected 1 (re-warp at every step) or more")
        if not 0.0 <= self.threshold < math.inf:
            raise ValueError(f"threshold: got {self.threshold}, expected a number >= 0")
        if not 0.0 <= self.refine_eta <= 1.0:
            raise ValueError(f"refine_eta: got {self.refine_eta}, expected a number from 0 (DDIM) to 1 (DDPM)")

    @classmethod
    def paper(cls) -> InterleaveSettings:
        """The paper's run: T = 200, N = 50, Eq. 10, gamma = 0.3 (DeepFashion: 0.5), refinement by the original LDM."""
        return cls()

    @classmethod
    def released(cls) -> InterleaveSettings:
        """The released code's run: T = 16 (17 times), N = 4, two re-warps, refinement by the fine-tuned network."""
        return cls(
            num_inference_steps=16,
            num_interleaved_steps=4,
            timesteps="released",
            noise_level="one_above",
            threshold=0.5,
            mask_form="released",
            rewarp="first_two",
            skip_last_warp=False,
            clamp_cosines=True,
            refine_model="finetuned",
        )

    @classmethod
    def fast(cls) -> InterleaveSettings:
        """4 U-Net calls instead of the paper's 70, from the same noise level: a quarter of T, without refinement.

        Steps follow the re-warped prediction, and the last call still has noise to remove. `scripts/benchmark.py steps`
        measures the effect on quality (docs/benchmarks/sampling.md).
        """
        return cls(
            num_inference_steps=16,
            num_interleaved_steps=4,
            timesteps="trailing",
            skip_last_warp=False,
            solver="dpm1",
            refine_steps=0,
        )

    def replace(self, **changes: Any) -> InterleaveSettings:
        """A copy with some settings changed, checked again."""
        return dataclasses.replace(self, **changes)

    def with_steps(self, total: int | None = None, calls: int | None = None) -> InterleaveSettings:
        """A copy with T = `total` and N = `calls`. If only T is given, N is T / 4, and at least 1."""
        if total is None:
            return self if calls is None else self.replace(num_interleaved_steps=calls)
        calls = max(1, total // 4) if calls is None else calls
        return self.replace(num_inference_steps=total, num_interleaved_steps=calls)

    def rewarped_steps(self) -> list[int]:
        """The n after whose U-Net call the prediction is matched and warped again, descending."""
        steps = list(range(self.num_interleaved_steps, 1, -1))
        if self.rewarp == "none":
            return []
        if self.rewarp == "first_two":
            steps = steps[:2]
        steps = steps[:: self.rewarp_interval]
        return [n for n in steps if not (self.skip_last_warp and n == 2)]


class LoopTimes(NamedTuple):
    """Times and levels of one chain of n = N..1; entry i belongs to n = N - i."""

    times: list[int]  # tau_N, ..., tau_1: the times given to the U-Net
    alpha_bars: Tensor  # (N,): level at each call
    start: Tensor  # (): noise level of the loop's start
    start_time: int  # time of the loop's start


def loop_times(schedule: Schedule, settings: InterleaveSettings) -> LoopTimes:
    """Times of the interleaved loop: the last N of the T steps."""
    return _chain(schedule, settings.num_inference_steps, settings.num_interleaved_steps, settings)


def refine_times(schedule: Schedule, settings: InterleaveSettings) -> LoopTimes:
    """Times of the refinement: its last `refine_steps` of `refine_num_inference_steps` steps."""
    return _chain(schedule, settings.refine_num_inference_steps, settings.refine_steps, settings)


def _chain(schedule: Schedule, total: int, calls: int, settings: InterleaveSettings) -> LoopTimes:
    ascending = ddim_timesteps(schedule.num_train_timesteps, total, settings.timesteps)
    first = (
        len(ascending) - total if settings.timesteps == "released" else 0
    )  # the release never visits its surplus times
    times = ascending[first : first + calls][::-1]
    start_time = ascending[first + calls] if settings.noise_level == "one_above" else times[0]
    return LoopTimes(times, schedule.alphas_cumprod[times], schedule.alphas_cumprod[start_time], start_time)


def _check_steps(name: str, steps: int, total_name: str, total: int) -> None:
    if not 0 <= steps < total:
        raise ValueError(f"{name}: got {steps}, expected 0 to {total - 1} (less than {total_name} = {total})")


_CHOICES = {
    "timesteps": TimestepRule,
    "noise_level": NoiseLevel,
    "mask_form": MaskForm,
    "rewarp": RewarpRule,
    "solver": Solver,
    "refine_model": RefineModel,
}
