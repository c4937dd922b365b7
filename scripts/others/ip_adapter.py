"""IP-Adapter for the exemplar with ControlNet for the condition, by diffusers, pair by pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from midms.evaluation.benchmark import noise_generators
from midms.io.images import read_rgb
from midms.progress import Progress
from midms.visualize import save_png
from others.pairs import Pair


def load_pipeline(
    base: str, controlnet: str, adapter: str, weight_name: str, scale: float, device: str, local: bool = False
) -> Any:
    """Stable Diffusion with a ControlNet and an IP-Adapter.

    Args:
        base: Stable Diffusion 1.5, folder or hub name. controlnet: for the kind of condition.
        adapter: folder or hub name with the file `weight_name` and, unless `base` has one, models/image_encoder.
        scale: of the adapter: 1 follows the exemplar alone, 0 the prompt alone.
        local: no downloads.
    """
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

    network = ControlNetModel.from_pretrained(controlnet, local_files_only=local)
    pipe = StableDiffusionControlNetPipeline.from_pretrained(
        base, controlnet=network, safety_checker=None, local_files_only=local
    )
    own_encoder = getattr(pipe, "image_encoder", None) is not None
    subfolder = "" if (Path(adapter) / weight_name).is_file() else "models"
    pipe.load_ip_adapter(
        adapter,
        subfolder=subfolder,
        weight_name=weight_name,
        image_encoder_folder=None if own_encoder else "image_encoder",
        local_files_only=local,
    )
    pipe.set_ip_adapter_scale(scale)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


def translate_pairs(
    pipe: Any,
    folder: Path,
    pairs: Sequence[Pair],
    prompts: Mapping[str, str],
    out: Path,
    steps: int = 50,
    seed: int = 0,
    progress: bool = False,
) -> None:
    """Make the outputs that are missing, OUT/00000.png ...; the noise of a pair depends on (seed, number) alone.

    Args:
        folder: with conditions/ and exemplars/, as `layouts.write_diffusers` writes them.
        prompts: number as text -> prompt.
    """
    missing = [pair for pair in pairs if not (out / f"{pair.number:05d}.png").is_file()]
    with Progress("translating", len(missing), hidden=not progress) as bar:
        for pair in missing:
            number = f"{pair.number:05d}"
            condition = read_rgb(folder / "conditions" / f"{number}.png")
            result = pipe(
                prompt=prompts[number],
                image=condition,
                ip_adapter_image=read_rgb(folder / "exemplars" / f"{number}.png"),
                num_inference_steps=steps,
                width=condition.width,
                height=condition.height,
                generator=noise_generators([pair.number], seed)[0],
            )
            save_png(out / f"{number}.png", np.asarray(result.images[0]))
            bar.update()
