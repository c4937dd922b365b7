"""Settings of a pipeline, for weights of MIDMs and of the GAN baseline."""

from __future__ import annotations

from typing import Any

from midms.config import ConfigError
from midms.diffusion.settings import InterleaveSettings
from midms.models.translation_gan import GANSettings

#: Settings of a pipeline: of MIDMs, or of the GAN baseline.
Settings = InterleaveSettings | GANSettings


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
