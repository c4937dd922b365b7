"""Common parts of all tabs: networks and pictures, messages for visitors, uploads."""

from __future__ import annotations

import functools
import inspect
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Any

import gradio as gr

from midms.app import actions
from midms.app.finished import FinishedPictures
from midms.conditions.make import ConditionSpec
from midms.config import ConfigError
from midms.data.samples import COUNT, Sample
from midms.pipelines.midms import MIDMsPipeline

NETWORKS = "networks"  # events of this group run one at a time
KEEP_SECONDS = 3600  # uploads and results
HIDDEN: dict[str, Any] = {"api_visibility": "private"}  # handlers are for this page alone
MISTAKE = "⚠ "  # first words of a line about a visitor's mistake


@dataclass
class AppContext:
    """Shared state of the handlers: the networks and their pictures."""

    pipe: MIDMsPipeline
    weights: str
    results: Path  # folder for finished pictures
    local: bool = True  # whether the page is reachable from this machine only
    finished: FinishedPictures = field(default_factory=FinishedPictures)

    @property
    def spec(self) -> ConditionSpec:
        """What the weights take as a condition."""
        return self.pipe.condition_spec()

    @property
    def task(self) -> str | None:
        """The task of the samples. None: no samples for these weights."""
        return self.pipe.task

    @property
    def size(self) -> int:
        """Pixels per side of exemplars and painted conditions."""
        return self.spec.side

    def sample(self, index: int) -> Sample:
        """The sample at `index` of a gallery, counted from 0, at the weights' size.

        Raises:
            ConfigError: there is no such sample.
        """
        return self.pipe.sample(index + 1)

    def draw_samples(self) -> None:
        """Draw all samples, so that later calls of `sample` return at once."""
        for index in range(COUNT if self.task else 0):
            _ = self.sample(index).condition

    def sample_exemplar(self, index: int) -> actions.ChosenExemplar:
        """The exemplar of a sample, with its maps if the weights use them for matching."""
        sample = self.sample(index)
        released = self.pipe.model.encoders.form == "released"
        return actions.ChosenExemplar(sample.exemplar, None, sample.exemplar_condition if released else None)

    def prune(self) -> None:
        """Remove finished pictures that no visitor can be waiting for."""
        for place in self.results.glob("result-*"):
            if time.time() - place.stat().st_mtime > KEEP_SECONDS:
                rmtree(place, ignore_errors=True)


def show_user_errors(line: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Show a mistake in `line`, one of the handler's outputs. The other outputs do not change.

    A ValueError is the visitor's mistake. Other exceptions are printed with details to standard error, and the page
    shows a short message.
    """

    def tell(error: Exception) -> dict[Any, str]:
        if isinstance(error, ValueError):  # ConfigError is one
            text = " ".join(str(error).split())
        else:
            traceback.print_exception(error)
            text = f"something went wrong inside ({type(error).__name__}); the program's log has the details"
        return {line: MISTAKE + text}

    def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(handler)
        def wrapped(*values: Any, **options: Any) -> Any:
            try:
                return handler(*values, **options)
            except Exception as error:  # the page survives any exception
                return tell(error)

        @functools.wraps(handler)
        def wrapped_generator(*values: Any, **options: Any) -> Iterator[Any]:
            try:
                yield from handler(*values, **options)
            except Exception as error:  # the page survives any exception
                yield tell(error)

        return wrapped_generator if inspect.isgeneratorfunction(handler) else wrapped

    return decorate


def selected_index(event: gr.SelectData) -> int:
    """Index of the picture that was clicked in a gallery."""
    return int(event.index)


def consume_upload(file: str | None, reader: Callable[[Path], Any]) -> Any:
    """Read an uploaded file and remove it."""
    if not file:
        raise ConfigError("nothing was uploaded")
    path = Path(file)
    try:
        return reader(path)
    finally:
        path.unlink(missing_ok=True)
