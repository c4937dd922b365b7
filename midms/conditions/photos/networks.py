"""MediaPipe's networks run by OpenCV, and the square windows of a photo that are their inputs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # RGB (H, W, 3)
Points = NDArray[np.float64]  # (P, 2) or (P, 3): x and y in pixels, and a depth in the same unit


class Network:
    """A TFLite file, called with an RGB picture (S, S, 3) of floats; returns its outputs by name, flattened.

    Raises:
        ValueError: OpenCV cannot read the file.
    """

    def __init__(self, file: Path) -> None:
        # OpenCV 5 has several engines; the default engine returns the first output alone
        engine = [cv2.dnn.ENGINE_CLASSIC] if hasattr(cv2.dnn, "ENGINE_CLASSIC") else []
        try:
            self.network = cv2.dnn.readNetFromTFLite(str(file), *engine)
        except cv2.error as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(f"{file}: not a network that OpenCV {cv2.__version__} reads ({reason})") from None
        self.outputs = list(self.network.getUnconnectedOutLayersNames())

    def __call__(self, picture: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        self.network.setInput(np.ascontiguousarray(picture.transpose(2, 0, 1)[None], dtype=np.float32))
        return {
            name: np.asarray(values, np.float32).ravel()
            for name, values in zip(self.outputs, self.network.forward(self.outputs), strict=True)
        }


@cache
def open_network(file: Path) -> Network:
    """The network in a file, read once in each process."""
    return Network(file)


class Window(NamedTuple):
    """A square of a photo, turned by `angle` about its centre."""

    centre: NDArray[np.float64]  # x, y
    side: float
    angle: float = 0.0  # radians; positive turns x towards y

    def matrix(self, size: int) -> NDArray[np.float64]:
        """The affine map, (2, 3), from the photo to the window's own size x size pixels."""
        scale = size / self.side
        cos, sin = scale * np.cos(self.angle), scale * np.sin(self.angle)
        turn = np.array([[cos, sin], [-sin, cos]])
        return np.column_stack([turn, size / 2 - turn @ self.centre])

    def cut(self, photo: Pixels, size: int, border: int = cv2.BORDER_CONSTANT) -> Pixels:
        """The window of a photo at size x size pixels, smoothed first if it is reduced."""
        shrink = self.side / size
        smooth = cv2.GaussianBlur(photo, (0, 0), 0.35 * shrink) if shrink > 1 else photo
        cut = cv2.warpAffine(smooth, self.matrix(size), (size, size), flags=cv2.INTER_LINEAR, borderMode=border)
        return np.asarray(cut, np.uint8)

    def to_photo(self, points: NDArray[np.floating], size: int) -> Points:
        """Convert points (P, 2 or 3) from pixels of the window to pixels of the photo."""
        back = cv2.invertAffineTransform(self.matrix(size))
        found = np.array(points, np.float64)
        found[:, :2] = found[:, :2] @ back[:, :2].T + back[:, 2]
        found[:, 2:] *= self.side / size
        return found


def sigmoid(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), in float64."""
    return 1 / (1 + np.exp(-np.clip(values.astype(np.float64), -60, 60)))
