"""The metrics of text-driven edits on folders: prompt, structure, background (see `midms.evaluation.edits`)."""

from __future__ import annotations

import json
from collections.abc import Callable

import torch
from torch import Tensor

from midms.evaluation.edits import background_lpips, clip_similarity, load_clip, load_dino, structure_distance
from midms.evaluation.folders import NotApplicableError, PairedFolders, match_names, read_labels
from midms.evaluation.metrics import folder_record, summarise
from midms.evaluation.records import Evaluation, Result


def _unit(images: Tensor, device: str) -> Tensor:
    """uint8 images to [0, 1]."""
    return images.to(device).float() / 255


def _clip(evaluation: Evaluation) -> Result:
    """CLIP similarity of each edit with its prompt."""
    folder, device, prompts = evaluation.folder("generated", exact=True), evaluation.options.device, evaluation.prompts
    if prompts is None:
        raise NotApplicableError("needs --prompts FILE")
    match_names(folder.names, list(prompts), "prompts")
    name = str(evaluation.options.clip)
    network = load_clip(name)
    network.model.to(device)

    def measure(images: Tensor, indices: list[int]) -> Tensor:
        return clip_similarity(network, _unit(images, device), [prompts[folder.names[i]] for i in indices])[:, None]

    key = f"clip|{name}|{json.dumps(prompts, sort_keys=True)}"
    rows = evaluation.rows(key, folder, 1, measure, "CLIP similarity")
    record = folder_record({"generated": folder}) | {"network": {"name": name}}
    return summarise("clip", ["clip_similarity"], rows, protocol="cosine with the target prompt", **record)


def _structure(evaluation: Evaluation) -> Result:
    """DINO structure distance of each edit to its source."""
    folders = {role: evaluation.folder(role, exact=True) for role in ("generated", "reference")}
    pairs, device = PairedFolders(folders["generated"], folders["reference"], "reference"), evaluation.options.device
    name = str(evaluation.options.dino)
    network = load_dino(name).to(device)

    def measure(batch: tuple[Tensor, Tensor], _: list[int]) -> Tensor:
        return structure_distance(network, _unit(batch[1], device), _unit(batch[0], device))[:, None]

    rows = evaluation.rows(f"structure|{name}", pairs, 1, measure, "structure distance")
    record = folder_record(folders) | {"network": {"name": name}}
    return summarise("structure", ["structure_distance"], rows, protocol="to the source (--reference)", **record)


def _background(evaluation: Evaluation) -> Result:
    """LPIPS of edit and source with the object blacked out in both."""
    folders = {role: evaluation.folder(role, exact=True) for role in ("generated", "reference")}
    pairs, device = PairedFolders(folders["generated"], folders["reference"], "reference"), evaluation.options.device
    masks, names = evaluation.masks, folders["generated"].names
    if masks is None:
        raise NotApplicableError("needs --masks DIR")
    match_names(names, list(masks), "masks")
    network, record = evaluation.lpips

    def measure(batch: tuple[Tensor, Tensor], indices: list[int]) -> Tensor:
        size = folders["generated"].size
        objects = torch.stack([read_labels(masks[names[i]], size) > 0 for i in indices])[
            :, None
        ].float()  # (B, 1, H, W)
        edited, source = (_unit(part, device) for part in batch)
        return background_lpips(network, source, edited, objects.to(device))[:, None]

    stamp = [(p.stat().st_size, p.stat().st_mtime_ns) for p in masks.values()]
    rows = evaluation.rows(f"background|{record['sha256']}|{stamp}", pairs, 1, measure, "background LPIPS")
    protocol = "LPIPS to the source, object masked out"
    return summarise(
        "background", ["background_lpips"], rows, protocol=protocol, network=record, **folder_record(folders)
    )


EDIT_METRICS: dict[str, Callable[[Evaluation], Result]] = {
    "clip": _clip,
    "structure": _structure,
    "background": _background,
}
