"""Confidence of matches: the cycle-consistency mask of the paper (Eq. 10) and the form of the released code.

All maps are expected coordinates (x, y) in [-1, 1] with the end points on the outermost cells, as `match` returns them.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from midms.matching.correspondence import Match, coordinate_grid

MaskForm = Literal["paper", "released", "none"]
MASK_FORMS: tuple[MaskForm, ...] = ("paper", "released", "none")


def forward_backward_error(forward_map: Tensor, backward_map: Tensor) -> Tensor:
    """Squared distance between a query's position and the end point of its round trip over the key grid (Eq. 10).

    Args:
        forward_map: expected key coordinates of each query, (B, 2, Hq, Wq).
        backward_map: expected query coordinates of each key, (B, 2, Hk, Wk); read bilinearly at `forward_map`.
    Returns:
        || u - psi_back(psi_forward(u)) ||², (B, 1, Hq, Wq), in [0, 8].
    """
    start = _positions(forward_map)  # (2, Hq, Wq)
    end = _read(backward_map, forward_map, "border")  # (B, 2, Hq, Wq)
    return (start - end).square().sum(dim=1, keepdim=True)


def self_composition_error(forward_map: Tensor) -> Tensor:
    """Length of the forward flow composed with itself, which the released code uses instead of a round trip.

    flow(u) = psi(u) - u is sampled again at psi(u), with zeros outside. Both samples are of the forward flow, so this
    is not a forward-backward check. It is kept for parity with released weights.

    Args:
        forward_map: expected key coordinates of each query, (B, 2, Hq, Wq).
    Returns:
        || flow(u) + flow(psi(u)) ||, (B, 1, Hq, Wq), not squared.
    """
    start = _positions(forward_map)  # (2, Hq, Wq)
    flow = forward_map - start  # (B, 2, Hq, Wq)
    return torch.linalg.vector_norm(flow + _read(flow, forward_map, "zeros"), dim=1, keepdim=True)


@torch.no_grad()
def cycle_consistency_mask(
    forward_map: Tensor, backward_map: Tensor | None, threshold: float, form: MaskForm = "paper"
) -> Tensor:
    """Confidence mask M of Eq. 10: 1 where the match is trusted, 0 elsewhere. It has no gradient.

    Args:
        forward_map: (B, 2, Hq, Wq).
        backward_map: (B, 2, Hk, Wk), needed only by the paper's form.
        threshold: gamma. Paper: 0.3 (CelebA-HQ), 0.5 (DeepFashion), of a squared distance. Released: 0.5, of a length.
        form: "paper" is the forward-backward check; "released" thresholds `self_composition_error` and keeps a 2x2 cell
            where at least 3 of its 4 pixels pass (even grids only); "none" trusts every match.
    Returns:
        (B, 1, Hq, Wq) of zeros and ones in the dtype of `forward_map`.
    Raises:
        ValueError: an unknown form, no backward map for the paper's form, an odd grid for the released one.
    """
    if form == "none":
        return torch.ones_like(forward_map[:, :1])
    if form == "paper":
        if backward_map is None:
            raise ValueError(
                "cycle_consistency_mask: form 'paper' needs the backward map; call match(..., backward=True)"
            )
        return (forward_backward_error(forward_map, backward_map) < threshold).to(forward_map.dtype)
    if form != "released":
        raise ValueError(f"cycle_consistency_mask: form is {form!r}, expected one of {', '.join(MASK_FORMS)}")
    height, width = forward_map.shape[-2:]
    if height % 2 or width % 2:
        raise ValueError(
            f"cycle_consistency_mask: form 'released' votes over 2x2 cells, got an odd grid {height}x{width}; "
            "use form 'paper'"
        )
    passed = (self_composition_error(forward_map) < threshold).to(forward_map.dtype)  # (B, 1, H, W)
    kept = (F.avg_pool2d(passed, 2) > 0.5).to(forward_map.dtype)  # (B, 1, H/2, W/2)
    return F.interpolate(kept, scale_factor=2, mode="nearest")  # (B, 1, H, W)


@torch.no_grad()
def match_confidence(matched: Match, threshold: float, form: MaskForm = "paper") -> Tensor:
    """`cycle_consistency_mask` of a `Match`, (B, 1, Hq, Wq).

    Several exemplars are checked separately. Each query uses the mask of the exemplar with its largest share.
    """
    backward_maps = matched.backward_maps or (None,) * len(matched.forward_maps)
    masks = [
        cycle_consistency_mask(forward, backward, threshold, form)
        for forward, backward in zip(matched.forward_maps, backward_maps, strict=True)
    ]
    best_exemplar = matched.share.argmax(dim=1, keepdim=True)  # (B, 1, Hq, Wq)
    return torch.cat(masks, dim=1).gather(1, best_exemplar)


def _positions(field: Tensor) -> Tensor:
    height, width = field.shape[-2:]
    return coordinate_grid(height, width, field.device, field.dtype)


def _read(field: Tensor, positions: Tensor, padding: str) -> Tensor:
    """`field` (B, c, H, W) read bilinearly at `positions` (B, 2, h, w): (B, c, h, w)."""
    return F.grid_sample(
        field, positions.permute(0, 2, 3, 1), mode="bilinear", padding_mode=padding, align_corners=True
    )
