"""CelebA-HQ edge conditions: 15 channels from a grey photo and face-part masks (CoCosNet's form, which MIDMs uses)."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

#: Order of the distance channels 1 ... 13.
FACE_PARTS = (
    "skin", "l_brow", "r_brow", "l_eye", "r_eye", "l_ear", "r_ear", "nose", "u_lip", "mouth", "l_lip", "eye_g", "hair",
)  # fmt: skip
EDGE_CHANNELS = len(FACE_PARTS) + 2
#: Parts that lie on the skin: the skin mask includes them.
INSIDE_SKIN = ("l_brow", "r_brow", "l_eye", "r_eye", "nose", "u_lip", "mouth", "l_lip", "eye_g")
#: Orders in which known face parsers number the parts from 1 on. The parts that `FACE_PARTS` lacks are not drawn.
PART_ORDERS = {
    "midms": FACE_PARTS,
    "face-parsing.PyTorch": (
        "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear", "ear_r", "nose", "mouth", "u_lip",
        "l_lip", "neck", "neck_l", "cloth", "hair", "hat",
    ),
    "CelebAMask-HQ": (
        "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip", "l_lip",
        "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
    ),
}  # fmt: skip


def outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels, (H, W), that differ from a 4-neighbour: lines two pixels wide, none at the image border."""
    edge = np.zeros(mask.shape, bool)
    across, down = mask[:, 1:] != mask[:, :-1], mask[1:] != mask[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge


def distance_map(edge: NDArray[np.bool_], pixel: float = 1.0) -> NDArray[np.uint8]:
    """City-block distance to `edge` over 3, clipped to 0 ... 255 and truncated; 255 everywhere without an edge.

    Args:
        edge: outline of one part, (H, W).
        pixel: length of a pixel in the distance's unit. The published form is 1 at 256 pixels; 256 / H gives the
            same picture at every resolution.
    """
    if not edge.any():
        return np.full(edge.shape, 255, np.uint8)
    distance = cv2.distanceTransform(np.where(edge, 0, 255).astype(np.uint8), cv2.DIST_L1, 3)
    distance = np.minimum(distance, 1e6)  # without an edge OpenCV returns the largest float
    return np.clip(distance * (pixel / 3), 0, 255).astype(np.uint8)


def edge_condition(
    grey: NDArray[np.uint8], masks: Mapping[str, NDArray[np.bool_]], pixel: float = 1.0
) -> NDArray[np.uint8]:
    """Edge maps and part distances of one face, (15, H, W) uint8; the network reads them divided by 255.

    Channel 0 holds the part outlines and, outside the inner parts, the Canny edges of the photo; channels 1 ... 13
    the distance to each part's outline in the order of `FACE_PARTS` (255 where the part is absent); channel 14 the
    part outlines alone. Hair, the last part, counts as outside even over skin.

    Args:
        grey: the photo in grey levels, (H, W).
        masks: part name -> (H, W); absent parts may be left out.
        pixel: see `distance_map`.
    Raises:
        ValueError: a mask has an unknown name or another size than the photo.
    """
    from skimage.feature import canny  # noqa: PLC0415 - it imports scipy, which drawings do not need

    height, width = grey.shape
    maps = np.full((EDGE_CHANNELS, height, width), 255, np.uint8)
    parts, open_to_canny = np.zeros((height, width), bool), np.ones((height, width), bool)
    for name, mask in masks.items():
        if name not in FACE_PARTS or mask.shape != grey.shape:
            raise ValueError(f"mask {name!r} of shape {mask.shape}: expected one of {FACE_PARTS} of shape {grey.shape}")
    for channel, name in enumerate(FACE_PARTS, start=1):
        if name in masks:
            edge = outline(masks[name])
            parts |= edge
            maps[channel] = distance_map(edge, pixel)
            open_to_canny[masks[name]] = name == "hair"
    maps[0] = 255 * (parts | (canny(grey) & open_to_canny))
    maps[14] = 255 * parts
    return maps


def part_masks(ids: NDArray[np.uint8], order: str = "midms") -> dict[str, NDArray[np.bool_]]:
    """Masks of the face parts in a map of ids (H, W), 0 for none; absent parts are left out.

    In such a map the inner parts of the face replace the skin. The skin mask includes those parts, as in CelebAMask-HQ.

    Args:
        order: a key of `PART_ORDERS`: id k is the k-th part of the order.
    Raises:
        ValueError: unknown order, or an id outside of the order: the map is numbered in another order.
    """
    if order not in PART_ORDERS:
        raise ValueError(f"part order {order!r}: expected one of {', '.join(PART_ORDERS)}")
    parts = PART_ORDERS[order]
    if ids.max(initial=0) > len(parts):
        others = ", ".join(name for name in PART_ORDERS if name != order)
        raise ValueError(
            f"part id {ids.max()}; the order {order!r} has 1 ... {len(parts)}, 0 for none (other orders: {others})"
        )
    masks = {part: ids == k for k, part in enumerate(parts, start=1) if part in FACE_PARTS and (ids == k).any()}
    if "skin" in masks:
        masks["skin"] = np.logical_or.reduce([masks[part] for part in ("skin", *INSIDE_SKIN) if part in masks])
    return masks
