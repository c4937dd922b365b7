"""Encoded conditions and exemplars, which can be reused with any number of partners."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from midms.models.encoders import ConditionFeatures


class Exemplar(NamedTuple):
    """Encoded exemplars, for any number of conditions."""

    latent: Tensor  # D_Y (B, c, h, w)
    features: Tensor  # S_Y (B, C, h, w), matched with the condition's features
    key: Tensor  # (B, C, h, w), matched with the features of the loop's predictions
    mask: Tensor | None = None  # (B, 1, h, w): where its tokens may be used; None: everywhere

    def map(self, change: Callable[[Tensor], Tensor]) -> Exemplar:
        """`change` applied to every tensor, to select or repeat samples."""
        latent, features, key = (change(tensor) for tensor in (self.latent, self.features, self.key))
        return Exemplar(latent, features, key, None if self.mask is None else change(self.mask))


class Condition(NamedTuple):
    """Encoded conditions, for any number of exemplars."""

    encoded: ConditionFeatures
    size: tuple[int, int]  # (H, W) of the condition maps, to which the result is cropped
    picture: tuple[int, int] | None = None  # (H, W) of the drawing, to which the result is resized

    def map(self, change: Callable[[Tensor], Tensor]) -> Condition:
        """`change` applied to every tensor, to select or repeat samples."""
        return self._replace(encoded=ConditionFeatures(*map(change, self.encoded)))


def join_exemplars(exemplars: Sequence[Exemplar]) -> Exemplar:
    """Several exemplars as one batch, the i-th for the i-th condition.

    In contrast, a list of exemplars in a call means competing exemplars of one condition.

    Raises:
        ValueError: no exemplars, or latents of different sizes.
    """
    _check_sizes("exemplars", [_size(e.latent) for e in exemplars])
    latent, features, key = (torch.cat(parts) for parts in zip(*(e[:3] for e in exemplars), strict=True))
    mask = None
    if any(e.mask is not None for e in exemplars):
        mask = torch.cat([torch.ones_like(e.latent[:, :1]) if e.mask is None else e.mask for e in exemplars])
    return Exemplar(latent, features, key, mask)


def join_conditions(conditions: Sequence[Condition]) -> Condition:
    """Several conditions as one batch.

    Raises:
        ValueError: no conditions, or conditions of different sizes.
    """
    _check_sizes("conditions", [c.size for c in conditions])
    parts = zip(*(c.encoded for c in conditions), strict=True)
    drawn = {c.picture for c in conditions}
    encoded = ConditionFeatures(*(torch.cat(part) for part in parts))
    return Condition(encoded, conditions[0].size, drawn.pop() if len(drawn) == 1 else None)


def repeat_exemplar(exemplar: Exemplar, count: int) -> Exemplar:
    """Repeat one exemplar for `count` conditions; `count` exemplars are returned unchanged.

    Raises:
        ValueError: neither one nor `count` exemplars.
    """
    batch = len(exemplar.latent)
    if batch == count:
        return exemplar
    if batch != 1:
        raise ValueError(f"{batch} exemplars for {count} conditions: expected 1 or {count}")
    return exemplar.map(lambda tensor: tensor.expand(count, -1, -1, -1))


def repeat_condition(condition: Condition, count: int) -> Condition:
    """Repeat one condition for `count` exemplars; several conditions are returned unchanged."""
    if len(condition.encoded.features) != 1:
        return condition
    return condition.map(lambda tensor: tensor.expand(count, -1, -1, -1))


def _size(latent: Tensor) -> tuple[int, int]:
    return int(latent.shape[-2]), int(latent.shape[-1])


def _check_sizes(name: str, sizes: list[tuple[int, int]]) -> None:
    if len(set(sizes)) != 1:
        raise ValueError(f"{name} to be joined: expected at least one, all of one size, got sizes {sizes}")
