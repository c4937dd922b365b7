"""Samples of the package: pairs of the built-in benchmark, drawn when they are asked for, so that no file is shipped.

`sample:1` ... `sample:24` stand for a file wherever a condition or an exemplar is expected. As a condition the name
means the maps of the pair's layout, as an exemplar the picture that shows its style. The task (faces, figures or
churches) is that of the weights.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from midms.conditions.edges import EDGE_CHANNELS
from midms.conditions.keypoints import KEYPOINT_CHANNELS
from midms.conditions.segmentation import SEGMENTATION_CHANNELS
from midms.config import ConfigError
from midms.data.procedural.dataset import TASKS, ProceduralPairs, Task, task_module, test_pairs, to_image
from midms.data.procedural.scene import Scene
from midms.visualize import Pixels, condition_image, panels, to_pixels

PREFIX = "sample:"
COUNT = 24
#: Number in the test list of the pair of sample 1, chosen for its good result.
FIRST = {"faces": 13, "figures": 8, "churches": 23}
#: What the pictures of each task show.
SHOWN = {"faces": "drawn portraits", "figures": "drawn people", "churches": "drawn churches"}
_TASKS = {EDGE_CHANNELS: "faces", KEYPOINT_CHANNELS: "figures", SEGMENTATION_CHANNELS: "churches"}


@dataclass(frozen=True)
class Sample:
    """One drawn pair of the benchmark's fixed test list, at one size.

    Attributes:
        task: the task that it belongs to.
        source: the scene whose layout the condition shows.
        shown: the scene of the exemplar.
    """

    task: str
    source: Scene
    shown: Scene

    @cached_property
    def condition(self) -> NDArray[np.uint8]:
        """Condition maps, (L, H, W)."""
        return self._maps(self.source)

    @property
    def exemplar(self) -> Pixels:
        """The picture that shows the style, (H, W, 3)."""
        return self.shown.image

    @cached_property
    def exemplar_condition(self) -> NDArray[np.uint8]:
        """The exemplar's own condition maps, (L, H, W)."""
        return self._maps(self.shown)

    def _maps(self, scene: Scene) -> NDArray[np.uint8]:
        maps: NDArray[np.uint8] = task_module(self.task).condition(scene)
        return maps


def is_sample(name: object) -> bool:
    """Whether the name of an input means a sample instead of a file."""
    return str(name).startswith(PREFIX)


def sample_number(name: object) -> int:
    """The number in the name of a sample.

    Raises:
        ConfigError: there is no sample of that name.
    """
    number = re.fullmatch(rf"{PREFIX}([0-9]{{1,6}})", str(name))
    if number is None or not 1 <= int(number[1]) <= COUNT:
        raise ConfigError(f"{name}: no such sample; expected {PREFIX}1 to {PREFIX}{COUNT} (`midms samples` shows them)")
    return int(number[1])


def sample_task(info_task: object, channels: int) -> str | None:
    """The task whose conditions have the form that weights take. None: no task has.

    Args:
        info_task: the task that the weights were trained on, by their own account.
        channels: of their condition maps.
    """
    return info_task if isinstance(info_task, str) and info_task in TASKS else _TASKS.get(channels)


@cache
def draw_sample(task: str, size: int, number: int) -> Sample:
    """Sample `number` of a task, at `size` pixels per side.

    Raises:
        ConfigError: there is no sample of that number.
    """
    source, shown, _, _ = _pairs(task, size).scenes(_index(task, number))
    return Sample(task, source, shown)


def true_translation(task: str, size: int, number: int) -> Pixels:
    """The right answer to a sample as condition with itself as exemplar, (size, size, 3)."""
    return to_pixels(test_pairs(cast(Task, task), size, COUNT)[_index(task, number)]["truth"])


def picture_of_maps(maps: NDArray[np.uint8]) -> Pixels:
    """Picture, uint8 (H, W, 3), of condition maps or of a condition image, (L, H, W)."""
    if len(maps) == 3:
        return np.ascontiguousarray(maps.transpose(1, 2, 0))
    return to_pixels(condition_image(torch.from_numpy(maps)[None].float() / 255))[0]


def contact_sheet(task: str, size: int, cell: int = 96, columns: int = 4) -> Pixels:
    """All samples of a task as one picture: number, condition and exemplar of each."""
    tiles: list[tuple[str, torch.Tensor] | None] = []
    for number in range(1, COUNT + 1):
        sample = draw_sample(task, size, number)
        shown = to_image(picture_of_maps(sample.condition)), to_image(sample.exemplar)
        tiles += [(f"{PREFIX}{number}", shown[0]), ("", shown[1])]
    return panels([tiles[start : start + 2 * columns] for start in range(0, len(tiles), 2 * columns)], cell)


def _index(task: str, number: int) -> int:
    """Number in the test list: `FIRST`, then the others in their order."""
    sample_number(f"{PREFIX}{number}")
    others = [index for index in range(COUNT) if index != FIRST[task]]
    return [FIRST[task], *others][number - 1]


@cache
def _pairs(task: str, size: int) -> ProceduralPairs:
    """The pairs of `test_pairs` without the truth, which nobody asks for and which takes time to draw."""
    return ProceduralPairs(cast(Task, task), size, "test", COUNT, exemplars={"hard": 1.0})
