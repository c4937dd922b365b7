"""The noise of each pair, from one seed or from generators that a caller gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from midms.diffusion.schedule import sample_generators


def pair_seeds(seed: int, indices: Iterable[int]) -> list[int]:
    """The seed of each pair: seed + i for pair i, in any batch, process or program."""
    return [seed + index for index in indices]


def pair_generators(seed: int | Sequence[int], generator: Any, count: int) -> list[torch.Generator]:
    """One generator per pair.

    Args:
        seed: of the first pair, or one per pair.
        generator: one generator per pair, used instead of seeds; a single one for a single pair. None: use the seeds.
    Raises:
        ValueError: the number of seeds or generators is not `count`.
    """
    if generator is not None:
        generators = list(generator) if isinstance(generator, list | tuple) else [generator]
        if len(generators) != count:
            raise ValueError(f"{len(generators)} generators for {count} pairs: give one per pair")
        return generators
    seeds = pair_seeds(seed, range(count)) if isinstance(seed, int) else list(seed)
    if len(seeds) != count:
        raise ValueError(f"{len(seeds)} seeds for {count} pairs: give one number, or one per pair")
    return sample_generators(seeds)
