"""OpenPose's 18 joints of a person in a photo, by MediaPipe's body landmarks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midms.conditions.photos.faces import find_boxes, fit_mesh
from midms.conditions.photos.models import BODY, model_file
from midms.conditions.photos.networks import Pixels, Points, Window, open_network, sigmoid
from midms.conditions.photos.parts import person_mask

_SIDE = 256
_POINTS = 39  # 33 of the body, hip centre, a point on the circle around the body, and four more
_HIPS, _CIRCLE = 33, 34
_MARGIN = 1.25
#: Landmark of each joint in OpenPose's order; the neck lies between the shoulders.
_LANDMARKS = (0, None, 12, 14, 16, 11, 13, 15, 24, 26, 28, 23, 25, 27, 5, 2, 8, 7)
_RIGHT_SHOULDER, _LEFT_SHOULDER = 12, 11
_FACE, _RIGHT_EAR, _LEFT_EAR = (0, 14, 15), 16, 17  # joints: nose and eyes, ears
_HEAD = 0.9  # side of the window of a head over the distance from the neck to the hips
_TURNED = 15  # degrees of a turned head from which its far ear counts as unseen
_MIN_MASK = 0.01  # share of the photo: a smaller person does not count
#: Smallest probabilities of a visible joint and of a body; below them both count as absent.
MIN_VISIBLE, MIN_BODY = 0.3, 0.5


def find_joints(photo: Pixels, passes: int = 8) -> NDArray[np.float64] | None:
    """The joints of the person in the middle of a photo, (18, 3): x, y and a score; NaN where unseen.

    The first pass reads the window around the person mask. Each further pass reads the circle of the previous pass,
    until the circle is stable. None: there is no person.
    """
    height, width = photo.shape[:2]
    window = _first_window(photo)
    if window is None:
        return None
    network = open_network(model_file(BODY))
    for _ in range(passes):
        outputs = network(window.cut(photo, _SIDE) / 255.0)
        table = outputs["Identity"].reshape(_POINTS, 5)
        points = window.to_photo(table[:, :2], _SIDE)
        last, window = window, _around(points)
        if abs(window.side / last.side - 1) < 0.01 and np.hypot(*(window.centre - last.centre)) < 0.01 * last.side:
            break
    if float(outputs["Identity_1"][0]) < MIN_BODY:
        return None
    score = np.minimum(sigmoid(table[:, 3]), sigmoid(table[:, 4]))  # seen, and inside the window
    joints = _openpose(points, score, width, height)
    _hide_unseen(photo, points, joints)
    return joints


def _first_window(photo: Pixels) -> Window | None:
    """The square around the person mask, with a margin; None if the mask is nearly empty."""
    mask = person_mask(photo) > 0.5
    if mask.mean() < _MIN_MASK:
        return None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    low, high = np.array([columns[0], rows[0]]), np.array([columns[-1], rows[-1]])
    return Window((low + high) / 2, 1.1 * float((high - low + 1).max()))


def _around(points: Points) -> Window:
    """The window of the circle around a body, upright in the body's own frame."""
    radius = points[_CIRCLE] - points[_HIPS]
    angle = float(np.arctan2(radius[1], radius[0]) + np.pi / 2)
    return Window(points[_HIPS], 2 * _MARGIN * float(np.hypot(*radius)), angle)


def _openpose(points: Points, score: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """Landmarks as OpenPose's joints, NaN where a joint is unlikely or outside the photo."""
    joints = np.full((len(_LANDMARKS), 3), np.nan)
    shoulders = [_RIGHT_SHOULDER, _LEFT_SHOULDER]
    for joint, landmark in enumerate(_LANDMARKS):
        of = shoulders if landmark is None else [landmark]
        (x, y), sure = points[of].mean(axis=0), float(score[of].min())
        if sure >= MIN_VISIBLE and -0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5:
            joints[joint] = x, y, sure
    return joints


def _hide_unseen(photo: Pixels, points: Points, joints: NDArray[np.float64]) -> None:
    """Remove guessed joints: nose and eyes of a head seen from behind, and the far ear of a turned head."""
    neck, hips = points[[_RIGHT_SHOULDER, _LEFT_SHOULDER]].mean(axis=0), points[_HIPS]
    head = points[: _RIGHT_SHOULDER - 1].mean(axis=0)
    boxes = find_boxes(photo, Window(head, max(1.0, _HEAD * float(np.hypot(*(neck - hips))))))
    if not boxes:
        joints[list(_FACE)] = np.nan
        return
    yaw = fit_mesh(photo, boxes[0]).yaw
    if abs(yaw) > _TURNED:
        joints[_LEFT_EAR if yaw > 0 else _RIGHT_EAR] = np.nan
