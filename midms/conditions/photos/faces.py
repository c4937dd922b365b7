"""Faces of a photo: boxes (128 px detector), meshes of 468 points, and the FFHQ alignment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from midms.conditions.photos.models import FACE_DETECTOR, FACE_MESH, model_file
from midms.conditions.photos.networks import Pixels, Points, Window, open_network, sigmoid

_DETECTOR_SIDE, _STRIDES = 128, ((8, 2), (16, 6))  # (stride, boxes per cell)
_MESH_SIDE = 192
#: Detections with a lower score are rejected: the back of a head reaches 0.55.
MIN_SCORE = 0.6
_BESIDE = 0.3  # boxes with a larger intersection over union belong to the same face
_MARGIN = 1.5  # side of the mesh's window over the longer side of the face
#: Corner points of the mesh: outer corners of the eyes, chin and top, sides of the face.
RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS = (33, 133), (362, 263)
RIGHT_MOUTH, LEFT_MOUTH = 61, 291
TOP, CHIN, RIGHT_SIDE, LEFT_SIDE = 10, 152, 234, 454


class Box(NamedTuple):
    """One detected face."""

    score: float
    centre: NDArray[np.float64]
    size: NDArray[np.float64]  # width, height
    eyes: NDArray[np.float64]  # (2, 2): the person's right and left eye


class Face(NamedTuple):
    """The mesh of one face."""

    points: Points  # (468, 3)
    presence: float = 1.0  # 0 ... 1: whether the mesh lies on a face

    @property
    def height(self) -> float:
        """From the chin to the top of the mesh (the middle of the forehead), in pixels."""
        return float(np.linalg.norm(self.points[TOP, :2] - self.points[CHIN, :2]))

    @property
    def yaw(self) -> float:
        """Degrees by which the face is turned to a side, 0 seen from the front."""
        across = self.points[LEFT_SIDE] - self.points[RIGHT_SIDE]
        return float(np.degrees(np.arctan2(across[2], np.linalg.norm(across[:2]))))

    def seen_in(self, window: Window, size: int) -> Face:
        """The same mesh in the pixels of a window of size x size."""
        matrix, points = window.matrix(size), self.points.copy()
        points[:, :2] = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        points[:, 2] *= size / window.side
        return Face(points, self.presence)


def find_boxes(photo: Pixels, window: Window | None = None) -> list[Box]:
    """All faces of a photo, or of a window of it, with a score of at least `MIN_SCORE`, the largest first."""
    height, width = photo.shape[:2]
    window = window or Window(np.array([width / 2, height / 2]), max(height, width))
    outputs = open_network(model_file(FACE_DETECTOR))(window.cut(photo, _DETECTOR_SIDE) / 127.5 - 1)
    scores = sigmoid(outputs["classificators"])
    rows, cells = outputs["regressors"].reshape(-1, 8, 2).astype(np.float64), _cells()
    rows[:, [0, 2, 3, 4, 5, 6, 7]] += cells[:, None]  # all but the size are offsets from the cell's centre
    found: list[Box] = []
    left = scores >= MIN_SCORE
    while left.any():
        best = int(np.argmax(np.where(left, scores, 0)))
        same = left & (_overlap(rows[:, 0], rows[:, 1], best) > _BESIDE)
        same[best] = True
        left &= ~same
        row = np.average(rows[same], axis=0, weights=scores[same])
        points = window.to_photo(row[[0, 2, 3]], _DETECTOR_SIDE)
        found.append(Box(float(scores[best]), points[0], row[1] * window.side / _DETECTOR_SIDE, points[1:]))
    return sorted(found, key=lambda box: -float(box.size.prod()))


def fit_mesh(photo: Pixels, box: Box, passes: int = 2) -> Face:
    """The 468 points of a detected face; each pass reads the window around the previous mesh."""
    across = box.eyes[1] - box.eyes[0]
    window = Window(box.centre, _MARGIN * float(max(box.size)), float(np.arctan2(across[1], across[0])))
    network = open_network(model_file(FACE_MESH))
    for _ in range(passes):
        outputs = network(window.cut(photo, _MESH_SIDE) / 255.0)
        points = window.to_photo(outputs["conv2d_21"].reshape(-1, 3), _MESH_SIDE)
        presence = float(sigmoid(outputs["conv2d_31"])[0])
        window = _around(points[:, :2])
    return Face(points, presence)


def aligned_window(face: Face) -> Window:
    """The square of the FFHQ recipe: as wide as twice the eye distance or 1.8 times eyes to mouth, eyes upright."""
    points = face.points[:, :2]
    right, left = (points[list(corners)].mean(0) for corners in (RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS))
    mouth = (points[RIGHT_MOUTH] + points[LEFT_MOUTH]) / 2
    eyes, across = (right + left) / 2, left - right
    down = mouth - eyes
    axis = across + np.array([down[1], -down[0]])  # of the face, from its right to its left
    half = max(2.0 * float(np.hypot(*across)), 1.8 * float(np.hypot(*down)))
    return Window(eyes + 0.1 * down, 2 * half, float(np.arctan2(axis[1], axis[0])))


def is_aligned(window: Window, size: tuple[int, int]) -> bool:
    """Whether a photo of `size` (width, height) is aligned, within the variation of the FFHQ recipe."""
    width, height = size
    away = np.abs(window.centre - np.array(size) / 2).max() / max(size)
    ratio = window.side / max(size)
    return abs(width - height) <= 0.02 * max(size) and away < 0.04 and 0.88 < ratio < 1.14 and abs(window.angle) < 0.06


def cut_aligned(photo: Pixels, window: Window, side: int) -> Pixels:
    """The aligned square at side x side pixels; outside its borders the photo is mirrored and blurred."""
    cut = window.cut(photo, side, cv2.BORDER_REFLECT)
    inside = np.full(photo.shape[:2], 255, np.uint8)
    cover = cv2.warpAffine(inside, window.matrix(side), (side, side), flags=cv2.INTER_LINEAR)
    if cover.min() > 0:
        return cut
    distance = cv2.distanceTransform(np.where(cover > 0, 0, 255).astype(np.uint8), cv2.DIST_L2, 3)
    share = np.clip(distance / (0.1 * side), 0, 1)[..., None]  # of the blurred picture
    blurred = cv2.GaussianBlur(cut, (0, 0), 0.02 * side)
    return np.round(cut * (1 - share) + blurred * share).astype(np.uint8)


def _cells() -> NDArray[np.float64]:
    """Centres of the detector's cells, (896, 2), one per box."""
    centres = []
    for stride, boxes in _STRIDES:
        line = (np.arange(_DETECTOR_SIDE // stride) + 0.5) * stride
        grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
        centres.append(np.repeat(grid, boxes, axis=0))
    return np.concatenate(centres)


def _overlap(centres: NDArray[np.floating], sizes: NDArray[np.floating], one: int) -> NDArray[np.float64]:
    """Intersection over union of every box, (N, 2) centres and sizes, with box `one`."""
    low, high = centres - sizes / 2, centres + sizes / 2
    both = np.clip(np.minimum(high, high[one]) - np.maximum(low, low[one]), 0, None).prod(-1)
    return both / np.maximum(sizes.prod(-1) + sizes[one].prod() - both, 1e-9)


def _around(points: NDArray[np.float64]) -> Window:
    """The window around points of a mesh, (468, 2), upright in the face's own frame."""
    across = points[LEFT_EYE_CORNERS[1]] - points[RIGHT_EYE_CORNERS[0]]
    angle = float(np.arctan2(across[1], across[0]))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    own = points @ turn.T
    low, high = own.min(0), own.max(0)
    return Window(turn.T @ ((low + high) / 2), _MARGIN * float(max(high - low)), angle)


def polygon(points: NDArray[np.floating], ids: Sequence[int], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels (H, W) inside the polygon through points `ids`, accurate to a sixteenth of a pixel."""
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round(points[list(ids), :2] * 16).astype(np.int32)], 1, shift=4)
    return mask.astype(bool)
