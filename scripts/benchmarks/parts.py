"""Time by part: the shares of U-Net, first stage, encoders and matching in a run."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from midms.models.midms import MIDMs

#: Part -> (attribute of the model, method).
METHODS = {
    "unet": [("denoiser", "forward")],
    "decode": [("first_stage", "decode")],
    "encode": [("first_stage", "encode")],
    "encoders": [("encoders", "encode_condition"), ("encoders", "encode_exemplar"), ("encoders", "encode_iterate")],
    "matching": [("", "match")],
}
PARTS = tuple(METHODS)


class PartClock:
    """Milliseconds and calls of each part; processor time on the CPU, synchronised wall time on CUDA."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.milliseconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()

    def now(self) -> float:
        """Milliseconds."""
        if self.device == "cpu":
            return 1e3 * time.process_time()
        torch.cuda.synchronize()
        return 1e3 * time.perf_counter()

    def wrap(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, counted as a call of `part`."""

        def timed(*arguments: Any, **options: Any) -> Any:
            start = self.now()
            try:
                return function(*arguments, **options)
            finally:
                self.milliseconds[part] += self.now() - start
                self.calls[part] += 1

        return timed


@contextmanager
def watching(model: MIDMs, wrap: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Within the context, replace the methods of the parts by `wrap(part, method)`."""
    watched = []
    for part, places in METHODS.items():
        for owner, method in places:
            target = getattr(model, owner) if owner else model
            target.__dict__[method] = wrap(part, getattr(target, method))
            watched.append((target, method))
    try:
        yield
    finally:
        for target, method in watched:
            del target.__dict__[method]
