"""Settings of an edit: the defaults and the values of the released code."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict

from midms.oig.guidance import oig_step_size
from midms.oig.images import Resize
from midms.oig.schedule import InversionKind
from midms.schema import check_argument_names

GuidanceBranch = Literal["uncond", "full"]
StepSize = Callable[[int, int], float]


class InversionOptions(TypedDict, total=False):
    """Keyword arguments of `OIGPipeline.invert` that define the method; described there."""

    resolution: int | None
    resize: Resize
    sample_posterior: bool
    schedule: InversionKind


class EditOptions(TypedDict, total=False):
    """Keyword arguments of an `OIGPipeline` call: the fields of `EditSettings`, and those below.

    Attributes:
        negative_prompt: one, or one per image. Default None: the source prompt, as for real images. "" is usual for
            generated ones.
        height, width: size of a generated image in pixels. Default None: the model's.
    """

    negative_prompt: str | list[str] | None
    height: int | None
    width: int | None
    guidance_scale: float
    clip_weight: float
    structure_weight: float
    clip_margin: float
    structure_margin: float
    cycle_weight: float
    cycle_source_weight: float | None
    clip_antialias: bool
    guidance_branch: GuidanceBranch
    step_shift: int
    fix_last_inverse: bool
    step_size: StepSize


# Arguments for the released behaviour of `OIGPipeline.invert` and `OIGPipeline.__call__`; see docs/oig.md.
RELEASED_INVERSION: InversionOptions = {"resize": "stretch", "sample_posterior": True, "schedule": "released"}
RELEASED_EDIT: EditOptions = {"guidance_branch": "uncond", "step_shift": 1, "fix_last_inverse": False}


@dataclass(frozen=True)
class EditSettings:
    """The hyper-parameters of OIG and OIG+ under the names of `OIGPipeline.__call__`.

    Attributes:
        guidance_scale: s of classifier-free guidance; at or below 1 there is only one branch.
        clip_weight: lambda_1.
        structure_weight: lambda_2.
        clip_margin: beta_p.
        structure_margin: beta_f.
        cycle_weight: lambda_4; 0 is OIG, above 0 is OIG+.
        cycle_source_weight: lambda_3; None: lambda_4 / 5.
        clip_antialias: low-pass filter when the decoded image is reduced for CLIP.
        guidance_branch: path of the gradient. "uncond": the explicit latent and the negative branch, as in the
            released code, with half the memory. "full": both branches, the gradient of the loss as written.
        step_shift: step k uses j = min(k + step_shift, N - 1) in gamma_j and in the decay 1 - j/N of OIG+.
        fix_last_inverse: keep the last upward step of OIG+ inside the table of noise levels.
        step_size: (j, N) -> gamma_j.
    """

    guidance_scale: float = 5.0
    clip_weight: float = 0.1
    structure_weight: float = 1.0
    clip_margin: float = 0.5
    structure_margin: float = 2.5
    cycle_weight: float = 0.0
    cycle_source_weight: float | None = None
    clip_antialias: bool = True
    guidance_branch: GuidanceBranch = "uncond"
    step_shift: int = 0
    fix_last_inverse: bool = True
    step_size: StepSize = oig_step_size

    def __post_init__(self) -> None:
        for name in ("guidance_scale", "clip_weight", "structure_weight", "structure_margin", "cycle_weight"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} must be a finite number of at least 0, got {value}")
        if not math.isfinite(self.clip_margin):
            raise ValueError(f"clip_margin must be a finite number, got {self.clip_margin}")
        if self.cycle_source_weight is not None and not 0 <= self.cycle_source_weight < math.inf:
            raise ValueError(f"cycle_source_weight must be None or at least 0, got {self.cycle_source_weight}")
        if self.guidance_branch not in ("uncond", "full"):
            raise ValueError(f"guidance_branch must be 'uncond' or 'full', got {self.guidance_branch!r}")
        if self.step_shift not in (0, 1):
            raise ValueError(f"step_shift must be 0 or 1 (the released code), got {self.step_shift}")

    @classmethod
    def from_options(cls, options: EditOptions) -> EditSettings:
        """The settings among the arguments of an `OIGPipeline` call.

        Raises:
            ValueError: a value is out of range.
            TypeError: an unknown argument.
        """
        check_argument_names("OIGPipeline", EditOptions, options)
        names = {field.name for field in fields(cls)}
        given: dict[str, Any] = {name: value for name, value in options.items() if name in names}
        return cls(**given)

    @property
    def lambda_3(self) -> float:
        """Weight of the source's cycle: by default a fifth of lambda_4."""
        return self.cycle_weight / 5 if self.cycle_source_weight is None else self.cycle_source_weight

    @property
    def uses_guidance(self) -> bool:
        """Whether any term of the loss is switched on."""
        return max(self.clip_weight, self.structure_weight, self.cycle_weight) > 0
