"""Finished pictures, kept so that a reloaded page can show its last one."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from typing import NamedTuple

from midms.app.actions import Frame, Result
from midms.app.record import SavedResult
from midms.app.uploads import ReadCondition
from midms.visualize import Pixels

KEPT = 16  # for all visitors together; each picture holds the features of its matches


class ChosenCondition(NamedTuple):
    """The visitor's choice of condition."""

    kind: str  # "sample", "painting" or "file": the open tab
    sample: int  # index of the picked sample
    read: ReadCondition | None  # of the uploaded file
    painting: Pixels | None  # (H, W, 3), of the canvas


class Finished(NamedTuple):
    """A finished picture with all data that the page shows."""

    result: Result
    frames: list[Frame]
    saved: SavedResult
    condition: ChosenCondition


class FinishedPictures:
    """The last `KEPT` finished pictures, each under an unguessable name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: OrderedDict[str, Finished] = OrderedDict()

    def add(self, finished: Finished) -> str:
        """Keep a finished picture. Returns its name."""
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._items[name] = finished
            while len(self._items) > KEPT:
                self._items.popitem(last=False)
        return name

    def get(self, name: object) -> Finished | None:
        """The picture of that name, while the picture is kept and its files exist."""
        with self._lock:
            finished = self._items.get(name) if isinstance(name, str) else None
        return finished if finished is not None and finished.saved.picture.is_file() else None
