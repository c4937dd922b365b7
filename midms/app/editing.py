"""Action of the text tab's button: load a Stable Diffusion once, edit a picture, show each step."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from midms.app.streaming import Outcome, stream
from midms.config import ConfigError
from midms.io.hub import hub_options
from midms.visualize import Pixels

if TYPE_CHECKING:
    from midms.oig.pipeline import OIGPipeline
    from midms.oig.settings import EditOptions

MAX_STEPS = 200
MAX_PROMPT = 500


class EditTask(NamedTuple):
    """All inputs of an edit, besides the weights."""

    picture: Image.Image
    source_prompt: str
    target_prompt: str
    steps: int
    seed: int
    guidance_scale: float
    clip_weight: float
    structure_weight: float


class EditProgress(NamedTuple):
    """The intermediate state of an edit; the last one has both pictures."""

    done: int
    total: int
    picture: Pixels | None  # the clean picture that the current step expects
    reconstruction: Pixels | None = None
    settings: dict[str, Any] | None = None


class TextWeights:
    """The networks of the text tab, one set at a time, loaded when first asked for."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._lock = threading.Lock()
        self._loaded: tuple[tuple[str, str | None], OIGPipeline] | None = None

    def get(self, weights: str, clip: str | None = None) -> OIGPipeline:
        """The pipeline of a folder or a hub repository.

        Raises:
            ConfigError: no weights were named, or the weights cannot be loaded.
        """
        if not weights.strip():
            raise ConfigError("no weights: name a Stable Diffusion 1.x or 2.x, a folder or a repository of the hub")
        names = weights.strip(), (clip or "").strip() or None
        with self._lock:
            if self._loaded is None or self._loaded[0] != names:
                self._loaded = None  # memory holds only one set
                self._loaded = names, load_text_pipeline(*names, self.device)
            return self._loaded[1]


def load_text_pipeline(weights: str, clip: str | None, device: str) -> OIGPipeline:
    """A Stable Diffusion with CLIP, from safetensors files.

    Raises:
        ConfigError: the weights are missing, unreadable, or without CLIP.
    """
    from transformers import CLIPModel, CLIPTokenizer  # noqa: PLC0415 - seconds to import

    from midms.oig.pipeline import OIGPipeline  # noqa: PLC0415 - seconds to import

    def load(name: str, reader: Any) -> Any:
        try:
            return reader.from_pretrained(name, **hub_options(name))
        except Exception as error:  # the libraries raise many exception classes
            reason = " ".join(str(error).split())[:160]
            raise ConfigError(f"{name}: cannot be loaded; give a folder in the form of diffusers ({reason})") from None

    pipeline = load(weights, OIGPipeline)
    if clip is not None:
        pipeline.register_modules(clip_model=load(clip, CLIPModel).eval(), clip_tokenizer=load(clip, CLIPTokenizer))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def edit(pipeline: OIGPipeline, task: EditTask) -> Iterator[EditProgress]:
    """Edit the picture. Yields after every step, and finally with the result.

    Raises:
        ConfigError: the task cannot be run, in words for the visitor.
    """
    from midms.oig import networks  # noqa: PLC0415 - imports transformers
    from midms.oig.editing import edit_image  # noqa: PLC0415 - imports transformers

    _check(pipeline, task)
    options: EditOptions = {
        "guidance_scale": task.guidance_scale,
        "clip_weight": task.clip_weight,
        "structure_weight": task.structure_weight,
    }

    def work(report: Any) -> Any:
        return edit_image(
            pipeline,
            task.picture,
            source_prompt=task.source_prompt,
            target_prompt=task.target_prompt,
            num_inference_steps=task.steps,
            seed=task.seed,
            edit_options=options,
            on_step=lambda step: report((step.k, _preview(networks.decode_latents(pipeline.vae, step.x0)))),
        )

    yield EditProgress(0, task.steps, None)
    try:
        for done, item in enumerate(stream(work), start=1):
            if isinstance(item, Outcome):
                result = item.value
                if result.flagged:
                    raise ConfigError("the safety checker of these weights rejected the edit")
                pictures = np.asarray(result.image), np.asarray(result.reconstruction)
                yield EditProgress(task.steps, task.steps, *pictures, result.settings)
            else:
                yield EditProgress(min(done, task.steps), task.steps, item[1])
    except (ValueError, RuntimeError) as error:
        raise ConfigError(" ".join(str(error).split())[:300]) from None


def _preview(decoded: Any) -> Pixels:
    """Decoded pictures (1, 3, H, W) in [0, 1] as pixels (H, W, 3)."""
    return (decoded[0].clamp(0, 1).movedim(0, -1).float().cpu().numpy() * 255).round().astype(np.uint8)


def _check(pipeline: OIGPipeline, task: EditTask) -> None:
    for name, prompt in (("source prompt", task.source_prompt), ("target prompt", task.target_prompt)):
        if not prompt.strip():
            raise ConfigError(f"{name}: say in words what the picture {'shows' if name[0] == 's' else 'should show'}")
        if len(prompt) > MAX_PROMPT:
            raise ConfigError(f"{name}: {len(prompt)} characters, expected at most {MAX_PROMPT}")
    if not 2 <= task.steps <= MAX_STEPS:
        raise ConfigError(f"steps: got {task.steps}, expected 2 to {MAX_STEPS}")
    if task.clip_weight > 0 and pipeline.clip_model is None:
        raise ConfigError("these weights come without CLIP: name one below, or set its weight to 0")
