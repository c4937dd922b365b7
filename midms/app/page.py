"""What all tabs share: the studio, messages for visitors, canvases."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from midms.app import actions, scenes
from midms.conditions.make import ConditionSpec
from midms.config import ConfigError
from midms.pipelines.midms import MIDMsPipeline
from midms.translate import condition_spec
from midms.visualize import Pixels

CANVAS = 384  # pixels of what is painted on or clicked
NETWORKS = "networks"  # events of this group run one at a time
KEEP_SECONDS = 3600  # uploads and results
HIDDEN: dict[str, Any] = {"api_visibility": "private"}  # handlers are for this page alone
STYLE = """
.gradio-container { max-width: 1360px !important; margin: auto; }
.swatch { display: inline-block; width: 0.9em; height: 0.9em; border-radius: 3px; border: 1px solid #8888;
  margin: 0 0.25em 0 0.7em; vertical-align: -0.1em; }
#scenes .grid-container, #exemplars .grid-container { grid-template-columns: repeat(4, minmax(0, 1fr)) !important; }
#scenes .thumbnail-item, #exemplars .thumbnail-item { min-width: 0; width: 100%; }
.caption-label { font-size: 0.7rem !important; padding: 1px 5px !important; }
#steps, #steps .grid-wrap { height: auto !important; min-height: 0 !important; max-height: none !important; }
#message { min-height: 1.6em; }
"""


@dataclass
class AppContext:
    """What the handlers share; nothing in it changes while the page is served."""

    pipe: MIDMsPipeline
    weights: str
    results: Path  # folder for finished pictures
    spec: ConditionSpec = field(init=False)  # what the weights take as a condition
    task: str | None = field(init=False)  # of the built-in scenes; None: there are none for these weights

    def __post_init__(self) -> None:
        self.spec = condition_spec(self.pipe)
        self.task = None if self.spec.images else scenes.scene_task(self.pipe.info.get("task"), self.spec.channels)

    @property
    def size(self) -> int:
        """Pixels per side of exemplars and painted conditions."""
        return self.spec.side

    def scene(self, index: int) -> scenes.Scene:
        """A built-in scene at the weights' size.

        Raises:
            ConfigError: there is none of that number.
        """
        if self.task is None or not 0 <= index < scenes.COUNT:
            raise ConfigError(f"scene {index}: no such built-in scene")
        return scenes.scene(self.task, self.size, index)

    def built_in_exemplar(self, index: int) -> actions.ChosenExemplar:
        """The exemplar of a scene, with its maps where the weights match them too."""
        scene = self.scene(index)
        released = self.pipe.model.encoders.form == "released"
        return actions.ChosenExemplar(scene.exemplar, None, scene.exemplar_condition if released else None)

    def prune(self) -> None:
        """Remove finished pictures that nobody can be waiting for."""
        for place in self.results.glob("result-*"):
            if time.time() - place.stat().st_mtime > KEEP_SECONDS:
                rmtree(place, ignore_errors=True)


def theme() -> gr.themes.Base:
    """Fonts of the visitor's own machine: nothing is fetched."""
    return gr.themes.Soft(
        primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )


def show_user_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Tell a visitor's mistake as a message on the page instead of a failure."""

    @functools.wraps(handler)
    def wrapped(*values: Any, **options: Any) -> Any:
        try:
            return handler(*values, **options)
        except ValueError as error:  # ConfigError is one
            raise gr.Error(" ".join(str(error).split()), duration=8, print_exception=False) from None

    @functools.wraps(handler)
    def wrapped_generator(*values: Any, **options: Any) -> Iterator[Any]:
        try:
            yield from handler(*values, **options)
        except ValueError as error:  # ConfigError is one
            raise gr.Error(" ".join(str(error).split()), duration=8, print_exception=False) from None

    return wrapped_generator if inspect.isgeneratorfunction(handler) else wrapped


def selected_index(event: gr.SelectData) -> int:
    """Index of the picture that was clicked in a gallery."""
    return int(event.index)


def to_canvas(pixels: Pixels, smooth: bool = True) -> Any:
    """Pixels as the background of an image editor, nothing painted on them."""
    return {"background": scenes.on_square(pixels, CANVAS, smooth), "layers": [], "composite": None}


def painted_layers(editor: dict[str, Any] | None) -> NDArray[np.uint8] | None:
    """The painted layers of an image editor as one, (H, W, 4); None where there is none."""
    layers = (editor or {}).get("layers") or []
    return np.maximum.reduce(layers) if layers else None


def consume_upload(file: str | None, reader: Callable[[Path], Any]) -> Any:
    """Read an uploaded file and remove it."""
    if not file:
        raise ConfigError("nothing was uploaded")
    path = Path(file)
    try:
        return reader(path)
    finally:
        path.unlink(missing_ok=True)
