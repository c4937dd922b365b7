"""Settings of a pipeline, for weights of MIDMs and of the GAN baseline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

from midms.config import ConfigError
from midms.diffusion.interleave import StepRecord
from midms.diffusion.settings import InterleaveSettings
from midms.matching.correspondence import Match
from midms.models.translation_gan import GANSettings

#: Settings of a pipeline: of MIDMs, or of the GAN baseline.
Settings = InterleaveSettings | GANSettings


class LoopOptions(TypedDict, total=False):
    """Keyword arguments of a `MIDMsPipeline` call for its loop.

    Attributes:
        settings: all settings. Default None: the pipeline's own.
        num_inference_steps: T, instead of the settings' T. Weights of the kind "matching_gan" have no T.
        num_interleaved_steps: N. Default None: T / 4 if T is given, else the settings' N. For "matching_gan": number
            of successive generations.
        callback: called after each step of the loop with its `StepRecord`. `MIDMsPipeline.decode` turns the record's
            latents into pictures of the progress.
        first_callback: called before the loop with the first match, whose `warp` is a latent, too.
    """

    settings: Settings | None
    num_inference_steps: int | None
    num_interleaved_steps: int | None
    callback: Callable[[StepRecord], None] | None
    first_callback: Callable[[Match], None] | None


def protocol_settings(own: InterleaveSettings, protocol: str) -> InterleaveSettings:
    """The settings of one of `midms.options.PROTOCOLS`; "weights": those saved with the weights, `own`."""
    return own if protocol == "weights" else getattr(InterleaveSettings, protocol)()


def gan_settings(
    own: GANSettings, calls: int | None, protocol: str = "weights", steps: int | None = None, threshold: Any = None
) -> GANSettings:
    """The weights' own settings with another number of generator calls.

    Args:
        calls: N. None: the weights' own.
        protocol, steps, threshold: options of a diffusion, which must keep their defaults here.
    Raises:
        ConfigError: an option of a diffusion was given, or a number is out of range.
    """
    given = {
        "protocol": protocol != "weights",
        "steps": steps is not None,
        "threshold": threshold is not None,
    }
    for name, is_given in given.items():
        if is_given:
            raise ConfigError(f"--{name}: these weights are a matching_gan, which has no diffusion; leave it out")
    try:
        return own.with_steps(None, calls)
    except ValueError as error:
        raise ConfigError(f"--calls: {error}") from None
