"""The metrics of `midms.evaluation.suite`: one function each, from an `Evaluation` to a result."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from midms.evaluation.folders import ImageFolder, NotApplicableError, PairedFolders, match_names, read_labels
from midms.evaluation.records import Evaluation, Result
from midms.evaluation.rows import RowStore, StoredPatches, fill, rank_and_world
from midms.metrics import style, swd, truth
from midms.metrics.diversity import diversity_pairs
from midms.metrics.edits import background_lpips, clip_similarity, load_clip, load_dino, structure_distance
from midms.metrics.fidelity import (
    FEATURES,
    feature_moments,
    frechet_distance,
    frechet_distance_at_infinity,
    frechet_distance_of_features,
    kernel_distance,
)

_VGG_PIXELS, _LPIPS_PIXELS = 16, 32  # smallest images that the networks' poolings allow


def _signed(images: Tensor, device: str) -> Tensor:
    """uint8 images to [-1, 1]."""
    return images.to(device).float() / 127.5 - 1


def summarise(metric: str, names: Sequence[str], rows: np.ndarray, **record: Any) -> Result:
    """Mean and standard error over images of each column; infinite or NaN entries make the mean infinite or NaN."""
    columns = rows.astype(np.float64).T
    count = len(rows)
    with np.errstate(invalid="ignore"):  # infinite entries, such as the PSNR of equal images
        errors = [float(c.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan") for c in columns]
    return Result(
        metric,
        values={name: float(c.mean()) for name, c in zip(names, columns, strict=True)},
        standard_errors=dict(zip(names, errors, strict=True)),
        per_image={name: c.tolist() for name, c in zip(names, columns, strict=True)},
        **record,
    )


def _need_pixels(folder: ImageFolder, least: int, what: str) -> None:
    if min(folder.size) < least:
        width, height = folder.size
        raise NotApplicableError(f"{what} needs images of {least} x {least} pixels, got {width}x{height} (--size)")


def folder_record(folders: dict[str, ImageFolder]) -> dict[str, Any]:
    """Counts and formats of the folders that a metric used, and their files that are not images."""
    return {
        "images": {role: len(folder) for role, folder in folders.items()},
        "image_format": {role: folder.image_format for role, folder in folders.items()},
        "left_out": {role: folder.left_out for role, folder in folders.items() if folder.left_out},
    }


def _inception_rows(evaluation: Evaluation, role: str) -> RowStore:
    network, record = evaluation.inception
    folder = evaluation.folder(role)
    key = f"inception|{record['sha256']}|{evaluation.options.protocol}\n{folder.fingerprint()}"
    store = evaluation.store(key, len(folder), FEATURES)
    device = evaluation.options.device

    def features(batch: Tensor, _: list[int]) -> list[Tensor]:
        return [network(batch.to(device))]

    fill([store], folder, features, evaluation.options.batch_size, f"features of {role}", evaluation.options.progress)
    return store


def _real_sets(evaluation: Evaluation) -> list[str]:
    """The real sets with which outputs are compared: the two columns of Table 1."""
    roles: list[str] = [role for role in ("reference", "exemplars") if role in evaluation.images]
    if not roles:
        raise NotApplicableError("needs --reference DIR or --exemplars DIR")
    for role in ("generated", *roles):
        if len(evaluation.images[role]) < 2:
            raise NotApplicableError(f"needs at least 2 images in {evaluation.images[role].root}, got 1")
    return roles


def _frechet(generated: RowStore, real: RowStore) -> float:
    """FID from the features of small sets, or from streamed moments of large ones."""
    if max(generated.count, real.count) < FEATURES:
        return frechet_distance_of_features(generated.read(), real.read())
    return frechet_distance(feature_moments(generated.blocks()), feature_moments(real.blocks()))


def _fid(evaluation: Evaluation) -> Result:
    """FID to the references (w/ sources) and to the exemplars (w/ exemplars)."""
    roles = _real_sets(evaluation)
    stores = {role: _inception_rows(evaluation, role) for role in ("generated", *roles)}
    values = {f"fid_{role}": _frechet(stores["generated"], stores[role]) for role in roles}
    if evaluation.options.fid_infinity:
        outputs, seed = stores["generated"].read(), evaluation.options.seed
        for role in roles:
            extrapolated = frechet_distance_at_infinity(outputs, stores[role].read(), seed)
            values[f"fid_{role}_infinity"] = extrapolated.value
    return _with_inception(evaluation, Result("fid", values=values), stores)


def _kid(evaluation: Evaluation) -> Result:
    """KID to the references and to the exemplars, with the deviation over its subsets."""
    roles = _real_sets(evaluation)
    stores = {role: _inception_rows(evaluation, role) for role in ("generated", *roles)}
    features = {role: store.read() for role, store in stores.items()}
    result = Result("kid")
    for role in roles:
        distance = kernel_distance(features["generated"], features[role], seed=evaluation.options.seed)
        result.values[f"kid_{role}"] = distance.mean
        result.values[f"kid_{role}_subset_deviation"] = distance.deviation
        result.values[f"kid_{role}_subset_size"] = distance.subset_size
    return _with_inception(evaluation, result, stores)


def _with_inception(evaluation: Evaluation, result: Result, stores: dict[str, RowStore]) -> Result:
    record = folder_record({role: evaluation.folder(role) for role in stores})
    result.protocol, result.network = evaluation.options.protocol, evaluation.inception[1]
    result.images, result.image_format = record["images"], record["image_format"]
    result.left_out = record["left_out"]
    return result


def _swd(evaluation: Evaluation) -> Result:
    """SWD x 1000 to the references per level and on average."""
    folders = {role: evaluation.folder(role) for role in ("generated", "reference")}
    counts = [len(folder) for folder in folders.values()]
    if counts[0] != counts[1]:
        raise NotApplicableError(f"needs as many generated images as references, got {counts[0]} and {counts[1]}")
    sizes = {folder.size for folder in folders.values()}
    if len(sizes) > 1:
        raise NotApplicableError(f"generated and reference images have other sizes, {sorted(sizes)}; give one (--size)")
    width, height = sizes.pop()
    try:
        levels = swd.pyramid_sizes(height, width)
    except ValueError as error:
        raise NotApplicableError(f"{error} (--size)") from error
    seeds = range(evaluation.options.seed, evaluation.options.seed + evaluation.options.seeds)
    table = np.array([_swd_once(evaluation, folders, levels, seed) for seed in seeds])
    table = np.column_stack([table, table.mean(axis=1)])
    names = [*(f"swd_{height}" for height, _ in levels), "swd_average"]
    result = summarise(
        "swd", names, table, protocol=f"PGGAN, x 1000, mean of {len(seeds)} seeds", **folder_record(folders)
    )
    result.per_image = {}
    return result


def _swd_once(
    evaluation: Evaluation, folders: dict[str, ImageFolder], levels: list[tuple[int, int]], seed: int
) -> list[float]:
    filled: dict[str, list[RowStore]] = {}
    row = swd.PATCHES_PER_IMAGE * 3 * swd.PATCH_SIZE**2
    for stream, (role, folder) in enumerate(folders.items()):
        key = f"swd|{seed}|{stream}\n{folder.fingerprint()}"
        filled[role] = [evaluation.store(f"{level}|{key}", len(folder), row) for level in levels]

        def cut(batch: Tensor, indices: list[int], stream: int = stream) -> list[Tensor]:
            return [p.flatten(1) for p in swd.patch_descriptors(batch, indices, seed, stream).values()]

        label = f"patches of {role}"
        fill(filled[role], folder, cut, evaluation.options.batch_size, label, evaluation.options.progress)
    if rank_and_world()[0] > 0:
        return [0.0] * len(levels)
    patches = {role: [StoredPatches(store) for store in stores] for role, stores in filled.items()}
    for role, sets in patches.items():
        for (height, _), one in zip(levels, sets, strict=True):
            if not one.varies:
                raise NotApplicableError(
                    f"the {role} images have one colour without any detail at level {height}, "
                    "and SWD divides by its standard deviation"
                )
    pairs = zip(levels, patches["generated"], patches["reference"], strict=True)
    return [swd.SCALE * swd.sliced_distance(a, b, swd.random_directions(size, 3, seed)) for size, a, b in pairs]


def _lpips_rows(evaluation: Evaluation, dataset: Any, key: str, label: str) -> np.ndarray:
    network, record = evaluation.lpips
    device = evaluation.options.device

    def distance(batch: tuple[Tensor, Tensor], _: list[int]) -> Tensor:
        return network(_signed(batch[0], device), _signed(batch[1], device))[:, None]

    return evaluation.rows(f"{key}|{record['name']}|{record['sha256']}", dataset, 1, distance, label)


class OutputPairs(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Pairs of outputs of one condition."""

    def __init__(self, folder: ImageFolder, pairs: list[tuple[int, int]]) -> None:
        self.folder, self.pairs = folder, pairs

    def fingerprint(self) -> str:
        return f"{self.folder.fingerprint()}\n{self.pairs}"

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        first, second = self.pairs[index]
        return self.folder[first], self.folder[second]


def condition_of(name: str) -> str:
    """The condition of an output called CONDITION__EXEMPLAR or CONDITION/EXEMPLAR."""
    return name.partition("__")[0] if "__" in name else name.rpartition("/")[0] or name


def _lpips(evaluation: Evaluation) -> Result:
    """LPIPS diversity between outputs of one condition under different exemplars (higher: more diverse)."""
    folder = evaluation.folder("generated", exact=True)
    pairs = diversity_pairs([condition_of(name) for name in folder.names])
    if not pairs:
        raise NotApplicableError(
            "no condition has two outputs; name them CONDITION__EXEMPLAR.jpg or CONDITION/EXEMPLAR.jpg"
        )
    _need_pixels(folder, _LPIPS_PIXELS, "LPIPS")
    rows = _lpips_rows(evaluation, OutputPairs(folder, pairs), "diversity", "LPIPS between outputs")
    record = folder_record({"generated": folder}) | {"network": evaluation.lpips[1]}
    result = summarise("lpips", ["lpips_diversity"], rows, protocol="diversity among exemplars", **record)
    result.images["pairs"] = len(pairs)
    return result


def _psnr(evaluation: Evaluation) -> Result:
    """PSNR in dB and SSIM to the truth."""
    folders = {role: evaluation.folder(role, exact=True) for role in ("generated", "truth")}
    pairs = PairedFolders(folders["generated"], folders["truth"], "truth")
    _need_pixels(folders["generated"], truth.SSIM_WINDOW, "SSIM")

    def measure(batch: tuple[Tensor, Tensor], _: list[int]) -> Tensor:
        images = [_signed(part, "cpu") for part in batch]
        return torch.stack([truth.psnr(*images), truth.ssim(*images)], dim=1)

    rows = evaluation.rows("psnr, ssim", pairs, 2, measure, "PSNR and SSIM")
    return summarise("psnr", ["psnr", "ssim"], rows, protocol="to the truth", **folder_record(folders))


def _lpips_to_truth(evaluation: Evaluation) -> Result:
    """LPIPS distance to the truth (lower: closer)."""
    folders = {role: evaluation.folder(role, exact=True) for role in ("generated", "truth")}
    pairs = PairedFolders(folders["generated"], folders["truth"], "truth")
    _need_pixels(folders["generated"], _LPIPS_PIXELS, "LPIPS")
    rows = _lpips_rows(evaluation, pairs, "distance", "LPIPS to the truth")
    record = folder_record(folders) | {"network": evaluation.lpips[1]}
    return summarise("lpips_truth", ["lpips_distance"], rows, protocol="distance to the truth", **record)


def _style(evaluation: Evaluation) -> Result:
    """Style relevance: colour (relu1_2) and texture (relu2_2) against the exemplar."""
    folders = {role: evaluation.folder(role, exact=True) for role in ("generated", "exemplars")}
    pairs = PairedFolders(folders["generated"], folders["exemplars"], "exemplars")
    _need_pixels(folders["generated"], _VGG_PIXELS, "VGG-19")
    network, record = evaluation.vgg19
    name, device = evaluation.options.style_cosine, evaluation.options.device

    def measure(batch: tuple[Tensor, Tensor], _: list[int]) -> Tensor:
        maps = [network(_signed(part, device)) for part in batch]
        return torch.stack(style.style_relevance(maps[0], maps[1], style.COSINES[name]), dim=1)

    rows = evaluation.rows(f"style|{name}|{record['sha256']}", pairs, 2, measure, "style relevance")
    protocol = f"{name} cosine to the exemplar, whole image, relu1_2 and relu2_2"
    return summarise("style", ["colour", "texture"], rows, protocol=protocol, network=record, **folder_record(folders))


def _semantic(evaluation: Evaluation) -> Result:
    """Semantic consistency with the photograph of the condition."""
    folders = {role: evaluation.folder(role, exact=True) for role in ("generated", "reference")}
    pairs = PairedFolders(folders["generated"], folders["reference"], "reference")
    _need_pixels(folders["generated"], _VGG_PIXELS, "VGG-19")
    network, record = evaluation.vgg19
    device, names = evaluation.options.device, folders["generated"].names
    labels = evaluation.labels
    if labels is not None:
        match_names(names, list(labels), "labels")

    def measure(batch: tuple[Tensor, Tensor], indices: list[int]) -> Tensor:
        maps = [network(_signed(part, device)) for part in batch]
        size = folders["generated"].size
        regions = torch.stack([read_labels(labels[names[i]], size) for i in indices]) if labels else None
        return style.semantic_consistency(maps[0], maps[1], regions.to(device) if regions is not None else None)[
            :, None
        ]

    regions = "regions of the label map" if labels else "one region"
    stamp = [(p.stat().st_size, p.stat().st_mtime_ns) for p in labels.values()] if labels else ""
    rows = evaluation.rows(f"semantic|{regions}|{stamp}|{record['sha256']}", pairs, 1, measure, "semantic consistency")
    protocol = f"region-pooled cosine to the photograph of the condition, {regions}, mean of relu3_2, 4_2, 5_2"
    return summarise("semantic", ["semantic"], rows, protocol=protocol, network=record, **folder_record(folders))


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


METRICS: dict[str, Callable[[Evaluation], Result]] = {
    "fid": _fid,
    "kid": _kid,
    "swd": _swd,
    "lpips": _lpips,
    "psnr": _psnr,
    "lpips_truth": _lpips_to_truth,
    "style": _style,
    "semantic": _semantic,
}
#: The metrics of text-driven edits: prompt, structure, background (see `midms.metrics.edits`).
EDIT_METRICS: dict[str, Callable[[Evaluation], Result]] = {
    "clip": _clip,
    "structure": _structure,
    "background": _background,
}
