"""Sliced Wasserstein distance on Laplacian-pyramid patches (Karras et al. 2018, section 5), written from the paper.

For each level of the pyramid, 7x7 patches are cut at random positions. Each set is normalised per colour by its own
mean and standard deviation, projected on random directions, and sorted. The mean absolute difference, times 1000, is
the level's distance. It has a positive floor that falls like 1 / sqrt(number of images), so values for different
numbers of images cannot be compared.

Random numbers depend only on (seed, key of the image, level). Batches, order and ranks do not change the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PATCH_SIZE = 7
PATCHES_PER_IMAGE = 128
DIRECTIONS = 4 * 128
SMALLEST_LEVEL = 16
SCALE = 1e3

# projections per block, which bounds memory: 32 columns of 1.28 M patches (10,000 images) are 164 MB
_DIRECTION_BLOCK = 32
_ROW_BLOCK = 2**14


class SWD(NamedTuple):
    """Distances times 1000: `levels` maps a level's height to its value, `average` is their mean (SWDx1e3_avg)."""

    levels: dict[int, float]
    average: float


class SWDDifference(NamedTuple):
    """SWD of method a minus SWD of method b against one reference, with its jackknife standard error.

    `levels` maps a level's height to (mean, standard error) of that level alone.
    """

    mean: float
    standard_error: float
    swd_a: SWD
    swd_b: SWD
    pairs: int
    levels: dict[int, tuple[float, float]]


class Patches(Protocol):
    """Normalised patches (M, C, 7, 7) that can be read in blocks: a tensor, or a file."""

    @property
    def shape(self) -> Sequence[int]: ...

    def split(self, rows: int, /) -> Iterable[Tensor]: ...


def _smooth(padded: Tensor, dim: int, step: int) -> Tensor:
    """Taps 1, 4, 6, 4, 1 along a dimension that has two more entries on both sides; every `step`-th result."""
    size, before = padded.shape[dim] - 4, (slice(None),) * dim
    taps = [padded[(*before, slice(k, k + size, step))] for k in range(5)]
    return (taps[0] + taps[4]).add_(taps[1] + taps[3], alpha=4).add_(taps[2], alpha=6)


def _binomial_filter(images: Tensor, gain: float = 1.0, step: int = 1) -> Tensor:
    """Every `step`-th pixel of the 5x5 binomial low-pass of (N, C, H, W).

    The border is mirrored without repeating the edge pixel. The filter is a sum of shifted images, which on a CPU is
    several times as fast as a grouped convolution.
    """
    padded = F.pad(images, (2, 2, 2, 2), mode="reflect")
    return _smooth(_smooth(padded, 2, step), 3, step).mul_(gain / 256)


def pyramid_down(images: Tensor) -> Tensor:
    """Low-pass, then every second pixel from pixel 0: (N, C, H, W) -> (N, C, H/2, W/2)."""
    return _binomial_filter(images, step=2)


def pyramid_up(images: Tensor) -> Tensor:
    """Insert zeros and low-pass with gain 4: (N, C, H, W) -> (N, C, 2H, 2W)."""
    count, channels, height, width = images.shape
    stuffed = images.new_zeros(count, channels, 2 * height, 2 * width)
    stuffed[:, :, ::2, ::2] = images
    return _binomial_filter(stuffed, gain=4.0)


def pyramid_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Sizes of the levels, from that of the image to a shorter side of 16.

    Raises:
        ValueError: an image smaller than 16, or a side that cannot be halved often enough.
    """
    sizes = [(height, width)]
    while min(sizes[-1]) >= 2 * SMALLEST_LEVEL:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    factor = 2 ** (len(sizes) - 1)
    if min(height, width) < SMALLEST_LEVEL or height % factor or width % factor:
        raise ValueError(
            f"SWD: cannot halve {height}x{width} down to {SMALLEST_LEVEL}; resize the images to a power of two >= 16"
        )
    return sizes


def laplacian_pyramid(images: Tensor) -> list[Tensor]:
    """Band-pass levels of (N, C, H, W), largest first; the last is the plain low-pass of shorter side 16..31."""
    levels = []
    for _ in pyramid_sizes(images.shape[2], images.shape[3])[1:]:
        smaller = pyramid_down(images)
        levels.append(images - pyramid_up(smaller))
        images = smaller
    return [*levels, images]


def patch_centres(size: tuple[int, int], keys: Sequence[int], seed: int, stream: int = 0) -> Tensor:
    """Random patch centres, fixed by (seed, stream, key of the image, size of the level).

    Args:
        size: (height, width) of the level.
        keys: one non-negative number per image (its index or a hash of its name).
        stream: which set of images; sets of one stream share their positions.
    Returns:
        (len(keys), 128, 2) int64, (row, column), such that whole patches fit.
    """
    half = PATCH_SIZE // 2
    highs = (size[0] - half, size[1] - half)
    rngs = [np.random.Generator(np.random.PCG64([seed, stream, key, *size])) for key in keys]
    return torch.from_numpy(np.stack([rng.integers(half, highs, (PATCHES_PER_IMAGE, 2)) for rng in rngs]))


def random_directions(size: tuple[int, int], channels: int, seed: int) -> Tensor:
    """Unit columns in patch space, fixed by (seed, size of the level): (C * 49, 512), order (channel, row, column)."""
    rng = np.random.Generator(np.random.PCG64([seed, *size]))
    directions = rng.standard_normal((channels * PATCH_SIZE**2, DIRECTIONS)).astype(np.float32)
    return torch.from_numpy(directions / np.linalg.norm(directions, axis=0, keepdims=True))


def extract_patches(level: Tensor, centres: Tensor) -> Tensor:
    """Cut 7x7 patches: (N, C, H, W) and centres (N, P, 2) as (row, column) -> (N, P, C, 7, 7)."""
    offsets = torch.arange(PATCH_SIZE, device=level.device) - PATCH_SIZE // 2
    rows = centres[:, :, 0, None, None].to(level.device) + offsets.view(-1, 1)  # (N, P, 7, 1)
    columns = centres[:, :, 1, None, None].to(level.device) + offsets  # (N, P, 1, 7)
    images = torch.arange(level.shape[0], device=level.device).view(-1, 1, 1, 1)  # (N, 1, 1, 1)
    return level.permute(0, 2, 3, 1)[images, rows, columns].movedim(-1, 2)  # (N, P, C, 7, 7)


def patch_descriptors(images: Tensor, keys: Sequence[int], seed: int = 0, stream: int = 0) -> dict[int, Tensor]:
    """Patches of every level of some images, not yet normalised.

    Args:
        images: (N, C, H, W), on any scale of values, the same for all; integers are not rescaled.
        keys, seed, stream: see `patch_centres`.
    Returns:
        {height of the level: (N, 128, C, 7, 7) float32}.
    """
    levels = laplacian_pyramid(images.float())
    sizes = [(level.shape[2], level.shape[3]) for level in levels]
    return {
        size[0]: extract_patches(level, patch_centres(size, keys, seed, stream))
        for size, level in zip(sizes, levels, strict=True)
    }


def normalise_patches(patches: Tensor) -> Tensor:
    """Subtract each colour's mean over the set, divide by its (population) standard deviation: (M, C, 7, 7) -> same.

    Raises:
        ValueError: a colour is constant.
    """
    mean = patches.double().mean(dim=(0, 2, 3), keepdim=True)  # (1, C, 1, 1)
    deviation = patches.double().std(dim=(0, 2, 3), correction=0, keepdim=True)  # (1, C, 1, 1)
    if not (deviation > 0).all():
        raise ValueError(
            "SWD: at one level of one set a colour has no detail, so there is no standard deviation to divide by"
        )
    return (patches - mean.float()) / deviation.float()


def project(patches: Patches, directions: Tensor) -> Tensor:
    """Coordinates of normalised patches (M, C, 7, 7) along directions (C * 49, D): (D, M)."""
    return torch.cat([directions.T @ block.flatten(1).T for block in patches.split(_ROW_BLOCK)], dim=1)


def _sort_rows(values: Tensor) -> Tensor:
    """Sort each row; NumPy's vectorised sort is ten times as fast as torch's on the CPU."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy(), axis=1))
    return values.sort(dim=1).values


def sliced_distance(patches_a: Patches, patches_b: Patches, directions: Tensor) -> float:
    """Mean absolute difference of the sorted projections (not scaled by 1000).

    Args:
        patches_a, patches_b: normalised patches, (M, C, 7, 7) each, the same number in both sets.
        directions: unit columns, (C * 49, D).
    """
    if tuple(patches_a.shape) != tuple(patches_b.shape):
        raise ValueError(
            f"SWD: both sets need as many images of one size, got patches {tuple(patches_a.shape)} "
            f"and {tuple(patches_b.shape)}"
        )
    total = 0.0
    for block in directions.split(_DIRECTION_BLOCK, dim=1):
        sorted_a, sorted_b = (_sort_rows(project(patches, block)) for patches in (patches_a, patches_b))
        total += float((sorted_a - sorted_b).abs_().mean(dim=1, dtype=torch.float64).sum())
    return total / directions.shape[1]


def _check_sets(*sets: Tensor) -> None:
    shapes = [tuple(images.shape) for images in sets]
    if len(set(shapes)) != 1 or len(shapes[0]) != 4:
        raise ValueError(f"SWD: expected sets of one shape (N, C, H, W), got {shapes}")


def _descriptors(images: Tensor, seed: int, stream: int, batch_size: int = 64) -> dict[int, Tensor]:
    """Patches of a whole set by level, (N * 128, C, 7, 7); the key of an image is its index."""
    parts = [
        patch_descriptors(
            images[start : start + batch_size], range(start, min(start + batch_size, len(images))), seed, stream
        )
        for start in range(0, len(images), batch_size)
    ]
    return {level: torch.cat([part[level] for part in parts]).flatten(0, 1) for level in parts[0]}


def sliced_wasserstein_distance(images_a: Tensor, images_b: Tensor, seed: int = 0, shared_patches: bool = False) -> SWD:
    """SWD between two sets of images, times 1000.

    Args:
        images_a, images_b: (N, C, H, W) of one shape; sides a power of two, at least 16 (16 gives a single level).
            The scale of values does not matter, because each set is normalised separately.
        seed: of the patch positions and the directions. The mean over several seeds has less noise.
        shared_patches: take the patches of image i at the same positions in both sets, for sets that are paired image
            by image (results and their truth); equal sets then have distance 0. False: positions are drawn separately,
            as usual in the field, and even equal sets have a distance above 0.
    """
    _check_sets(images_a, images_b)
    sizes = pyramid_sizes(images_a.shape[2], images_a.shape[3])
    sets = [_descriptors(images_a, seed, 0), _descriptors(images_b, seed, 0 if shared_patches else 1)]
    levels = {}
    for size in sizes:
        directions = random_directions(size, images_a.shape[1], seed).to(images_a.device)
        a, b = (normalise_patches(patches[size[0]]) for patches in sets)
        levels[size[0]] = SCALE * sliced_distance(a, b, directions)
    return SWD(levels, float(np.mean(list(levels.values()))))


def _leave_group_out(sets: Sequence[Tensor], directions: Tensor, groups: Tensor, count: int) -> np.ndarray:
    """Distances of set 0 and 1 to set 2 without each group, (count, 2).

    Each direction's projections are sorted once, because leaving a group out keeps their order. The normalisation is
    that of the whole set.
    """
    totals = np.zeros((count, 2))
    owner = groups.cpu().numpy()
    for block in directions.split(_DIRECTION_BLOCK, dim=1):
        projected = [project(patches, block).cpu().numpy() for patches in sets]  # (D, M) each
        orders = [np.argsort(values, axis=1) for values in projected]
        ordered = [np.take_along_axis(v, order, axis=1) for v, order in zip(projected, orders, strict=True)]
        owners = [owner[order] for order in orders]  # (D, M)
        for left_out in range(count):
            kept = [values[o != left_out] for values, o in zip(ordered, owners, strict=True)]  # rows of one length
            for method in (0, 1):
                mean = np.abs(kept[method] - kept[2]).mean(dtype=np.float64)
                totals[left_out, method] += mean * block.shape[1]
    return SCALE * totals / directions.shape[1]


def _jackknife_error(without: np.ndarray) -> float:
    """Standard error from the distances of methods a and b without each group, (groups, 2)."""
    difference, groups = without[:, 0] - without[:, 1], len(without)
    return float(np.sqrt((groups - 1) / groups * np.square(difference - difference.mean()).sum()))


def swd_paired_difference(
    method_a: Tensor,
    method_b: Tensor,
    reference: Tensor,
    seed: int = 0,
    shared_patches: bool = True,
    groups: int = 32,
) -> SWDDifference:
    """Difference of two methods' SWD to one reference, with its standard error over the pairs.

    Image i of the three sets belongs to pair i. Both methods use the same patch positions and directions. The standard
    error is that of a delete-a-group jackknife. The pairs are divided into `groups` of equal size; the last N mod
    groups pairs are not used. The difference is recomputed without each group, on a quarter of the directions:
    SE^2 = (g - 1) / g * sum_k (difference_k - mean)^2.

    Args:
        method_a, method_b, reference: (N, C, H, W) of one shape, N >= 2.
        seed: of the patch positions and the directions.
        shared_patches: use the methods' patch positions for the reference, too (see `sliced_wasserstein_distance`).
        groups: number of jackknife groups; at most N are used.
    Returns:
        Negative `mean`: method a is closer to the reference.
    """
    _check_sets(method_a, method_b, reference)
    groups = min(groups, len(reference))
    if groups < 2:
        raise ValueError(f"swd_paired_difference: expected at least 2 pairs and 2 groups, got {len(reference)} pairs")
    count = len(reference) // groups * groups
    owner = (torch.arange(count, device=reference.device) % groups).repeat_interleave(PATCHES_PER_IMAGE)
    streams = (0, 0, 0 if shared_patches else 1)
    images = (method_a[:count], method_b[:count], reference[:count])
    sets = [_descriptors(x, seed, stream) for x, stream in zip(images, streams, strict=True)]
    sizes = pyramid_sizes(reference.shape[2], reference.shape[3])
    values: dict[int, tuple[float, float]] = {}
    without: dict[int, np.ndarray] = {}
    for size in sizes:
        directions = random_directions(size, reference.shape[1], seed).to(reference.device)
        a, b, r = (normalise_patches(descriptors[size[0]]) for descriptors in sets)
        values[size[0]] = (SCALE * sliced_distance(a, r, directions), SCALE * sliced_distance(b, r, directions))
        without[size[0]] = _leave_group_out((a, b, r), directions[:, : DIRECTIONS // 4], owner, groups)
    swd_a, swd_b = (
        SWD({level: pair[k] for level, pair in values.items()}, float(np.mean([pair[k] for pair in values.values()])))
        for k in (0, 1)
    )
    error = _jackknife_error(np.mean(list(without.values()), axis=0))
    levels = {level: (a - b, _jackknife_error(without[level])) for level, (a, b) in values.items()}
    return SWDDifference(swd_a.average - swd_b.average, error, swd_a, swd_b, count, levels)
