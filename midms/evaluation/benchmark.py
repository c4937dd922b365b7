"""The built-in benchmark: methods and bounds on pairs whose true translation and correspondence are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from midms.data.procedural.dataset import ProceduralPairs
from midms.diffusion.interleave import Rewarp
from midms.diffusion.schedule import sample_generators
from midms.diffusion.settings import InterleaveSettings
from midms.losses.perceptual import FirstStageFeatures
from midms.matching.correspondence import argmax_correspondence, coordinate_grid
from midms.metrics.swd import swd_paired_difference
from midms.metrics.truth import (
    end_point_error,
    feature_distance,
    mask_precision_recall,
    paired_difference,
    pck,
    psnr,
    ssim,
)
from midms.models.encoders import ConditionFeatures
from midms.models.matcher import Matcher
from midms.models.midms import Exemplar, MIDMs

Batch = Mapping[str, Any]


class EncodedPairs(NamedTuple):
    """One batch of encoded pairs, the input of the methods."""

    batch: Batch
    condition: ConditionFeatures
    exemplar: Exemplar
    indices: Sequence[int]  # of the pairs, for their noise
    seed: int = 0  # of the noise


class Scores(NamedTuple):
    """Scores of one method, one per pair, and its images for the distances between sets."""

    psnr: np.ndarray  # dB to the truth
    ssim: np.ndarray
    distance: np.ndarray  # to the truth, on the frozen first stage's encoder (`feature_distance`)
    images: Tensor  # (N, 3, H, W)


class MatchingScores(NamedTuple):
    """Scores of the matching, one per pair (NaN if nothing is visible).

    `pck` and `error` count only the subject, because on a plain wall or floor every match is equally good, and most of
    the background hardly moves.
    """

    pck: np.ndarray  # share of the subject's positions matched within 0.1 of the side
    error: np.ndarray  # end-point error of the subject's positions, image pixels
    pck_everywhere: np.ndarray  # as `pck`, background included
    pck_foreground: np.ndarray  # as `pck`, with floor and ground, but without wall and sky
    same_part: np.ndarray  # share of positions matched to the same part, where the exemplar has that part

    def means(self) -> dict[str, float]:
        """Mean of each score over the pairs that have one, by name; NaN where none has."""
        known = {name: values[~np.isnan(values)] for name, values in self._asdict().items()}
        return {name: float(values.mean()) if values.size else math.nan for name, values in known.items()}


#: Function of a model, pairs and the model's settings that returns images (B, 3, H, W).
Method = Callable[[Any, EncodedPairs, Any], Tensor]


def noise_generators(indices: Sequence[int], seed: int) -> list[torch.Generator]:
    """One generator per pair, fixed by (seed, index), so that a pair's image does not depend on its batch."""
    return sample_generators(seed * 1_000_003 + index for index in indices)


def full_method(model: Matcher, pair: EncodedPairs, settings: Any) -> Tensor:
    """The method, with the components that the settings select."""
    generators = noise_generators(pair.indices, pair.seed)
    return model.decode(model.translate(pair.condition, [pair.exemplar], settings, generators).latent)


def one_time_matching(model: MIDMs, pair: EncodedPairs, settings: InterleaveSettings) -> Tensor:
    """Denoising without re-warping ("(-) recurrent matching")."""
    return full_method(model, pair, settings.replace(rewarp="none"))


def no_mask(model: MIDMs, pair: EncodedPairs, settings: InterleaveSettings) -> Tensor:
    """Every position is re-warped ("(-) confidence masking")."""
    return full_method(model, pair, settings.replace(mask_form="none"))


def no_diffusion(model: MIDMs, pair: EncodedPairs, settings: InterleaveSettings) -> Tensor:
    """The re-warps and masks of the method, without noise and U-Net ("(-) diffusion U-Net")."""
    latent = model.first_match(pair.condition, [pair.exemplar]).warp
    rematch: Callable[[Tensor], Rewarp] = model.rematcher(pair.condition, [pair.exemplar], settings)
    for _ in settings.rewarped_steps():
        rewarp = rematch(latent)
        latent = rewarp.mask * rewarp.warp + (1 - rewarp.mask) * latent
    return model.decode(latent)


def first_warp(model: Matcher, pair: EncodedPairs, settings: Any) -> Tensor:
    """The first warp R, decoded."""
    return model.decode(model.first_match(pair.condition, [pair.exemplar]).warp)


def autoencoded_truth(model: Matcher, pair: EncodedPairs, settings: Any) -> Tensor:
    """The truth through the first stage: the upper bound of all decoded results."""
    return model.autoencode(pair.batch["truth"])


def autoencoded_source(model: Matcher, pair: EncodedPairs, settings: Any) -> Tensor:
    """The condition's own photo through the first stage: the distance to photos caused by the autoencoder alone."""
    return model.autoencode(pair.batch["source"])


def exemplar_itself(model: Matcher, pair: EncodedPairs, settings: Any) -> Tensor:
    """The exemplar unchanged: the result of matching by position."""
    return pair.batch["exemplar"]


def other_style(model: Matcher, pair: EncodedPairs, settings: Any) -> Tensor:
    """The condition's own photo: the right layout in a random other style."""
    return pair.batch["source"]


def mean_part_colours(model: Matcher, pair: EncodedPairs, settings: Any) -> Tensor:
    """Each part of the layout in the exemplar's mean colour of that part, or of the whole exemplar if it lacks it."""
    return _part_means(pair.batch)


def _part_means(batch: Batch) -> Tensor:
    labels, exemplar_labels, images = batch["labels"], batch["exemplar_labels"], batch["exemplar"]
    result = images.mean(dim=(2, 3), keepdim=True).expand_as(images).clone()
    for sample in range(len(labels)):
        for part in labels[sample].unique():
            inside = exemplar_labels[sample] == part
            if inside.any():
                result[sample, :, labels[sample] == part] = images[sample, :, inside].mean(dim=1, keepdim=True)
    return result


def true_image_warp(pair: EncodedPairs) -> Tensor:
    """The exemplar's pixels moved by the true correspondence, mean part colours for hidden points; (B, 3, H, W).

    This is the upper bound of methods that only copy from the exemplar.
    """
    batch = pair.batch
    warped = F.grid_sample(
        batch["exemplar"], batch["coordinates"].movedim(1, -1), padding_mode="border", align_corners=True
    )
    return torch.where(batch["visible"][:, None], warped, _part_means(batch))


def true_latent_warp(model: Matcher, pair: EncodedPairs, settings: Any) -> Tensor:
    """The exemplar's latent warped by the true correspondence, with the first warp for hidden points.

    This is the result of a perfect matching. It is better than the first warp only if latents can be moved and
    averaged.
    """
    latent, coordinates = pair.exemplar.latent, pair.batch["coordinates"]
    grid = (latent.shape[-2], latent.shape[-1])
    truth = F.avg_pool2d(coordinates, model.first_stage.factor)  # (B, 2, h, w), of pixels
    places = to_latent_coordinates(truth, model.first_stage.factor).movedim(1, -1)
    warped = F.grid_sample(latent, places, padding_mode="border", align_corners=True)
    visible = F.adaptive_avg_pool2d(pair.batch["visible"][:, None].float(), grid) >= 0.5
    return model.decode(torch.where(visible, warped, model.first_match(pair.condition, [pair.exemplar]).warp))


def autoencoded_true_warp(model: Matcher, pair: EncodedPairs, settings: Any) -> Tensor:
    """`true_image_warp` through the first stage: the upper bound of methods that copy and decode."""
    return model.autoencode(true_image_warp(pair))


METHODS: dict[str, Method] = {
    "full method": full_method,
    "no confidence mask": no_mask,
    "one-time matching": one_time_matching,
    "no diffusion": no_diffusion,
    "first warp": first_warp,
    "true warp of the latent": true_latent_warp,
    "true warp, autoencoded": autoencoded_true_warp,
    "autoencoded truth": autoencoded_truth,
    "exemplar itself": exemplar_itself,
    "other style": other_style,
    "mean part colours": mean_part_colours,
}


@torch.no_grad()
def encode_batch(model: Matcher, dataset: Dataset[Any], positions: Sequence[int]) -> EncodedPairs:
    """Some pairs of a dataset, encoded; a pair's noise is that of its item's "pair", or of its position."""
    device = model.device
    raw = default_collate([dataset[position] for position in positions])
    batch = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in raw.items()}
    labels = batch["exemplar_condition"] if model.encoders.form == "released" else None
    exemplar = model.encode_exemplar(batch["exemplar"], labels)
    indices = batch["pair"].tolist() if "pair" in batch else list(positions)
    return EncodedPairs(batch, model.encode_condition(batch["condition"]), exemplar, indices)


def encoded_pairs(model: Matcher, dataset: ProceduralPairs, batch_size: int = 16) -> Iterator[EncodedPairs]:
    """The pairs of a dataset in order, encoded batch by batch."""
    for start in range(0, len(dataset), batch_size):
        yield encode_batch(model, dataset, range(start, min(start + batch_size, len(dataset))))


@torch.no_grad()
def score(model: Matcher, pairs: Sequence[EncodedPairs], method: Method, settings: Any) -> Scores:
    """Run a method on every pair and compare with the truth."""
    features = FirstStageFeatures(model.first_stage.model)
    images, rows = [], []
    for pair in pairs:
        got, truth = method(model, pair, settings), pair.batch["truth"]
        rows.append([psnr(got, truth), ssim(got, truth), feature_distance(features(got), features(truth))])
        images.append(got.cpu())
    columns = [torch.cat([row[k].cpu().double() for row in rows]).numpy() for k in range(3)]
    return Scores(columns[0], columns[1], columns[2], torch.cat(images))


def token_truth(coordinates: Tensor, visible: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """True matches at the latent's positions.

    Args:
        coordinates, visible: of the pixels, (B, 2, H, W) and (B, H, W).
        grid: (h, w) of the latent; each position stands for H/h x W/w pixels.
    Returns:
        Coordinates (B, 2, h, w), the mean over each position's pixels; and a mask (B, h, w) of the positions whose
        pixels are all visible in the exemplar and close together there (within twice their own extent).
    """
    factor = coordinates.shape[-1] // grid[1]
    mean = F.avg_pool2d(coordinates, factor)
    spread = F.max_pool2d(coordinates, factor) + F.max_pool2d(-coordinates, factor)  # (B, 2, h, w)
    whole = F.avg_pool2d(visible[:, None].float(), factor)[:, 0] == 1
    sides = torch.tensor([coordinates.shape[-1], coordinates.shape[-2]], device=spread.device).view(1, 2, 1, 1)
    return mean, whole & (spread < 4 * factor / sides).all(dim=1)


def _grid_scale(grid: tuple[int, int], factor: int) -> Tensor:
    """Factors (x, y) from a latent grid's coordinates to the image's, both -1 and 1 at the outermost centres."""
    return torch.tensor([(side - 1) * factor / (side * factor - 1) for side in reversed(grid)]).view(1, 2, 1, 1)


def to_image_coordinates(coordinates: Tensor, factor: int) -> Tensor:
    """Latent-grid coordinates (align-corners on token centres) as image coordinates (align-corners on pixels).

    `coordinates` (B, 2, h, w) as (x, y); `factor` pixels per token.
    """
    return coordinates * _grid_scale((coordinates.shape[-2], coordinates.shape[-1]), factor).to(coordinates)


def to_latent_coordinates(coordinates: Tensor, factor: int) -> Tensor:
    """The inverse of `to_image_coordinates`: image coordinates of each token (B, 2, h, w) as latent-grid ones."""
    return coordinates / _grid_scale((coordinates.shape[-2], coordinates.shape[-1]), factor).to(coordinates)


def same_part_accuracy(found: Tensor, batch: Batch) -> Tensor:
    """Share of positions whose match lies in the same part of the exemplar (stone matches stone), per pair.

    Only positions count that lie completely in one part, and whose part the exemplar has.

    Args:
        found: image coordinates of the matches, (B, 2, h, w), (x, y) in [-1, 1].
        batch: with "labels" and "exemplar_labels", (B, H, W).
    Returns:
        (B,); NaN if no position counts.
    """
    labels, exemplar_labels = batch["labels"].to(found.device), batch["exemplar_labels"].to(found.device)
    grid = (found.shape[-2], found.shape[-1])
    high, low = (F.adaptive_max_pool2d(sign * labels[:, None].float(), grid)[:, 0] * sign for sign in (1, -1))
    reached = F.grid_sample(
        exemplar_labels[:, None].float(), found.float().movedim(1, -1), mode="nearest", align_corners=True
    )[:, 0]  # (B, h, w)
    present = torch.stack([torch.isin(high[i], exemplar_labels[i]) for i in range(len(high))])
    counted = (high == low) & present
    hits = ((reached == high) & counted).flatten(1).sum(dim=1).double()
    return hits / counted.flatten(1).sum(dim=1).double()  # 0 / 0 = NaN


@torch.no_grad()
def score_matching(model: Matcher, pairs: Sequence[EncodedPairs], kind: str) -> MatchingScores:
    """PCK and end-point error of a matching.

    It is "first" (condition with exemplar), "rematch" (first warp with exemplar) or "identity" (every position with
    itself)."""
    rows = []
    for pair in pairs:
        if kind == "rematch":
            warp = model.first_match(pair.condition, [pair.exemplar]).warp
            predicted = argmax_correspondence(model.encode_prediction(warp, pair.condition), pair.exemplar.key)
        else:
            predicted = argmax_correspondence(pair.condition.features, pair.exemplar.features)
        grid = (predicted.shape[-2], predicted.shape[-1])
        truth, valid = token_truth(pair.batch["coordinates"], pair.batch["visible"], grid)
        subject, foreground = (
            valid & (F.adaptive_max_pool2d((~mask)[:, None].float(), grid)[:, 0] == 0)  # all of a position's pixels
            for mask in (pair.batch["subject"], pair.batch["labels"] > 0)
        )
        if kind == "identity":
            predicted = coordinate_grid(*grid).to(predicted).expand_as(predicted)
        predicted = to_image_coordinates(predicted, model.first_stage.factor).to(truth)
        size = (pair.batch["truth"].shape[-2], pair.batch["truth"].shape[-1])
        error = end_point_error(predicted, truth, subject, size=size)
        shares = [pck(predicted, truth, counted, size=size) for counted in (subject, valid, foreground)]
        rows.append((shares[0], error, *shares[1:], same_part_accuracy(predicted, pair.batch)))
    return MatchingScores(*(torch.cat(column).cpu().double().numpy() for column in zip(*rows, strict=True)))


@torch.no_grad()
def score_masks(model: Matcher, pairs: Sequence[EncodedPairs], settings: InterleaveSettings) -> dict[str, float]:
    """Mean precision and recall of the first re-warp's mask against "this surface is visible in the exemplar"."""
    rows = []
    for pair in pairs:
        loop = model.translate(
            pair.condition, [pair.exemplar], settings.replace(refine_steps=0), noise_generators(pair.indices, 0)
        ).loop
        if not loop.rewarps:
            return {}
        mask = loop.rewarps[0].mask
        visible = F.interpolate(pair.batch["visible"][:, None].float(), mask.shape[-2:], mode="area") > 0.5
        rows.append(torch.stack([*mask_precision_recall(mask, visible), visible.flatten(1).double().mean(dim=1)]))
    mean = torch.cat(rows, dim=1).nanmean(dim=1).tolist()
    return {"precision": mean[0], "recall": mean[1], "visible": mean[2]}


class Difference(NamedTuple):
    """Full method minus another method, pair by pair: mean and standard error."""

    psnr: tuple[float, float]
    distance: tuple[float, float]
    swd: tuple[float, float]


def compare(first: Scores, second: Scores, truth: Tensor) -> tuple[Difference, float, float]:
    """Paired differences first - second, and the two sliced Wasserstein distances to `truth` (B, 3, H, W)."""
    gap = swd_paired_difference(first.images, second.images, truth)
    decibel, distance = paired_difference(first.psnr, second.psnr), paired_difference(first.distance, second.distance)
    difference = Difference(
        (decibel.mean, decibel.standard_error), (distance.mean, distance.standard_error), (gap.mean, gap.standard_error)
    )
    return difference, gap.swd_a.average, gap.swd_b.average
