"""Body pose conditions: 20 channels from 18 joints (CoCosNet's form for DeepFashion, which MIDMs uses)."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from midms.conditions.edges import distance_map

#: OpenPose's body joints, in the order of a pose.
JOINTS = (
    "nose", "neck", "r_shoulder", "r_elbow", "r_wrist", "l_shoulder", "l_elbow", "l_wrist", "r_hip", "r_knee",
    "r_ankle", "l_hip", "l_knee", "l_ankle", "r_eye", "l_eye", "r_ear", "l_ear",
)  # fmt: skip
#: The 17 limbs that are drawn, as pairs of joints; OpenPose's last two (shoulder to ear) are not.
LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0),
    (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
#: Colour of joint k and of limb k, in the channel order (blue, green, red).
COLOURS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0), (0, 255, 85),
    (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255),
    (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
KEYPOINT_CHANNELS = 3 + len(LIMBS)
#: In pixels. A joint farther from the photo's corner is an error in the file.
MAX_COORDINATE = 100_000
_RADIUS = 4


def check_joints(joints: NDArray[np.floating]) -> None:
    """Refuse coordinates outside any possible picture, (18, 2) in pixels; NaN where a joint is unseen.

    Raises:
        ValueError: a coordinate beyond `MAX_COORDINATE`, or infinite.
    """
    far = np.abs(joints) > MAX_COORDINATE  # NaN compares false
    if far.any():
        joint = int(far.any(axis=1).argmax())
        raise ValueError(
            f"joint {JOINTS[joint]} at ({joints[joint, 0]:.4g}, {joints[joint, 1]:.4g}); expected pixels of a photo, "
            f"at most {MAX_COORDINATE:,} from its corner"
        )


def pose_condition(
    joints: NDArray[np.floating], height: int, width: int, pixel: float = 1.0, size: int | None = None
) -> NDArray[np.uint8]:
    """Drawing and limb distances of one pose, (20, H, W) uint8; the network reads them divided by 255.

    Channels 0 ... 2 hold the coloured skeleton (R, G, B), channels 3 ... 19 the distance to each limb in the order of
    `LIMBS`: 0 inside, 255 where the limb has an unseen end.

    Args:
        joints: (x, y) of the 18 `JOINTS` in pixels of the photo, (18, 2); NaN where a joint is unseen.
        height, width: of the photo.
        pixel: length of a pixel in the unit of the published form, which is 1 at 256 pixels; 256 / H gives the same
            picture at every resolution.
        size: resample to size x size as the released loader does: the drawing by nearest pixel, the distances by
            Pillow's antialiased bilinear filter.
    Raises:
        ValueError: `joints` has another shape, or a coordinate that no photo has.
    """
    if joints.shape != (len(JOINTS), 2):
        raise ValueError(f"joints of shape {joints.shape}: expected ({len(JOINTS)}, 2), NaN where one is unseen")
    check_joints(joints)
    polygons = [_limb_polygon(joints[a], joints[b], pixel) for a, b in LIMBS]
    maps = np.empty((KEYPOINT_CHANNELS, height, width), np.uint8)
    maps[:3] = draw_skeleton(joints, polygons, height, width, pixel).transpose(2, 0, 1)
    for channel, polygon in enumerate(polygons, start=3):
        maps[channel] = 255 if polygon is None else distance_map(_filled(polygon, height, width), pixel)
    return maps if size is None else _resample(maps, size)


def draw_skeleton(
    joints: NDArray[np.floating],
    polygons: list[NDArray[np.int32] | None],
    height: int,
    width: int,
    pixel: float = 1.0,
) -> NDArray[np.uint8]:
    """The coloured skeleton on black, RGB (H, W, 3): discs at the joints, each limb blended over at 60 percent."""
    canvas = np.zeros((height, width, 3), np.uint8)
    radius = max(1, round(_RADIUS / pixel))
    for joint, colour in zip(joints, COLOURS, strict=True):
        if not np.isnan(joint).any():
            cv2.circle(canvas, (int(joint[0]), int(joint[1])), radius, colour, thickness=-1)
    for polygon, colour in zip(polygons, COLOURS[: len(LIMBS)], strict=True):
        if polygon is not None:
            over = canvas.copy()
            cv2.fillConvexPoly(over, polygon, colour)
            canvas = cv2.addWeighted(canvas, 0.4, over, 0.6, 0).astype(np.uint8)
    return np.ascontiguousarray(canvas[..., ::-1])


def _limb_polygon(a: NDArray[np.floating], b: NDArray[np.floating], pixel: float) -> NDArray[np.int32] | None:
    """Outline of the ellipse from joint a to joint b, (P, 2); none if one of the joints is unseen."""
    if np.isnan(a).any() or np.isnan(b).any():
        return None
    (x_a, y_a), (x_b, y_b) = a, b
    centre = (int((x_a + x_b) / 2), int((y_a + y_b) / 2))
    half_length = math.hypot(x_a - x_b, y_a - y_b) / 2
    angle = int(math.degrees(math.atan2(y_a - y_b, x_a - x_b)))
    axes = (int(half_length), max(1, round(_RADIUS / pixel)))
    return np.asarray(cv2.ellipse2Poly(centre, axes, angle, 0, 360, 1), np.int32)


def _filled(polygon: NDArray[np.int32], height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(mask, polygon, 255)
    return mask > 0


def _resample(maps: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    if maps.shape[1:] == (size, size):
        return maps
    out = np.empty((len(maps), size, size), np.uint8)
    for channel, plane in enumerate(maps):
        how = Image.Resampling.NEAREST if channel < 3 else Image.Resampling.BILINEAR
        out[channel] = np.asarray(Image.fromarray(plane).resize((size, size), how))
    return out
