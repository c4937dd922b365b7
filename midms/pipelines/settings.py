"""Settings from a command line, for weights of either kind."""

from __future__ import annotations

from typing import Any

from midms.config import ConfigError
from midms.diffusion.settings import InterleaveSettings
from midms.models.translation_gan import GANSettings

#: What a pipeline takes: of MIDMs, or of the baseline that matches once and generates.
Settings = InterleaveSettings | GANSettings


def gan_settings(
    own: GANSettings, calls: int | None, protocol: str = "weights", steps: int | None = None, threshold: Any = None
) -> GANSettings:
    """The weights' own settings with another number of generator calls.

    Args:
        calls: N. None: as the weights say.
        protocol, steps, threshold: of a diffusion; they have to be left as they are here.
    Raises:
        ConfigError: an option of a diffusion, or a number that is out of range.
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
