"""What a stage hands over when its training ends."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn


class Exported(NamedTuple):
    """Networks by component name, the configs they are built from, and facts about the whole for `config.json`."""

    modules: dict[str, nn.Module]
    configs: dict[str, dict[str, Any]]
    facts: dict[str, Any]
