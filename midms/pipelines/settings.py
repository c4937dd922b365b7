"""Settings from a command line, for weights of either kind."""

from __future__ import annotations

import argparse

from midms.config import ConfigError
from midms.diffusion.settings import InterleaveSettings
from midms.models.translation_gan import GANSettings

#: What a pipeline takes: of MIDMs, or of the baseline that matches once and generates.
Settings = InterleaveSettings | GANSettings


def gan_settings(own: GANSettings, options: argparse.Namespace) -> GANSettings:
    """The weights' own settings with the command line's number of generator calls.

    Args:
        options: `calls`, and those of a diffusion, which have to be left out: `protocol`, `steps`, `threshold`.
    Raises:
        ConfigError: an option of a diffusion, or a number that is out of range.
    """
    given = {
        "protocol": options.protocol not in (None, "weights"),
        "steps": options.steps is not None,
        "threshold": getattr(options, "threshold", None) is not None,
    }
    for name, is_given in given.items():
        if is_given:
            raise ConfigError(f"--{name}: these weights are a matching_gan, which has no diffusion; leave it out")
    try:
        return own.with_steps(None, options.calls)
    except ValueError as error:
        raise ConfigError(f"--calls: {error}") from None
