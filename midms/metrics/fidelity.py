"""FID (Heusel et al. 2017) and KID (Binkowski et al. 2018) on the FID variant of Inception-2015.

There are three published ways to resize an image to the network's 299 pixels, and so three different FIDs:

    paper           pytorch-fid, which the field's tables use: torch bilinear without antialiasing
    torch-fidelity  TensorFlow 1's bilinear, as torch-fidelity and torchmetrics
    clean           clean-fid: Pillow's bicubic with antialiasing, per channel in float
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from midms.io.files import BrokenFileError
from midms.io.weights import read_state
from midms.losses.perceptual import torch_checkpoint_folder

Protocol = Literal["paper", "torch-fidelity", "clean"]
PROTOCOLS: tuple[str, ...] = get_args(Protocol)

FEATURES = 2048
_INPUT_SIZE = 299
_FILES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{_FILES[0]}"


class Moments(NamedTuple):
    """Mean (D,) and unbiased covariance (D, D) (divided by n - 1) of a set of features; float64."""

    mean: np.ndarray
    covariance: np.ndarray


class KernelDistance(NamedTuple):
    """Mean and standard deviation over subsets of the unbiased squared MMD."""

    mean: float
    deviation: float
    subset_size: int


def inception_file(path: str | Path | None = None) -> Path:
    """The file with the weights: `path`, or torch-fidelity's or pytorch-fid's file in torch's cache.

    Raises:
        FileNotFoundError: absent; the message says which file, from where, and where to put it.
    """
    candidates = [Path(path)] if path is not None else [torch_checkpoint_folder() / name for name in _FILES]
    for file in candidates:
        if file.is_file():
            return file
    raise FileNotFoundError(
        f"Inception-2015 weights: no file {candidates[0]}; get {_FILES[0]} from {_URL} and put it there, "
        "or give its path"
    )


def _resize_clean(images: Tensor) -> Tensor:
    """Pillow's antialiased bicubic to 299 pixels, each channel in float32 (B, 3, H, W) uint8 -> float, 0..255."""
    size = (_INPUT_SIZE, _INPUT_SIZE)
    planes = images.cpu().numpy().astype(np.float32).reshape(-1, *images.shape[2:])
    resized = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC)) for plane in planes]
    stack = np.stack(resized).clip(0, 255).reshape(len(images), 3, *size)
    return torch.from_numpy(stack).to(images.device)


def inception_input(images: Tensor, protocol: Protocol) -> Tensor:
    """Resize and scale images to the network's input.

    Args:
        images: (B, 3, H, W) uint8, RGB.
    Returns:
        (B, 3, 299, 299) float32, about [-1, 1].
    """
    if protocol == "clean":
        return (_resize_clean(images) - 128) / 128
    if protocol == "torch-fidelity":
        from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x  # noqa: PLC0415 - an extra

        resized = interpolate_bilinear_2d_like_tensorflow1x(
            images.float(), size=(_INPUT_SIZE, _INPUT_SIZE), align_corners=False
        )
        return (resized - 128) / 128
    unit = images.float() / 255
    return 2 * F.interpolate(unit, size=(_INPUT_SIZE, _INPUT_SIZE), mode="bilinear", align_corners=False) - 1


class InceptionFeatures(nn.Module):
    """The 2048 pooled features of the FID variant of Inception-2015 (torch-fidelity's network).

    Args:
        path: its weights, torch-fidelity's or pytorch-fid's file; by default the one in torch's cache.
        protocol: how images are resized, see the module's docstring.
    Raises:
        FileNotFoundError: no weights. ImportError: torch-fidelity is not installed.
    """

    def __init__(self, path: str | Path | None = None, protocol: Protocol = "paper") -> None:
        super().__init__()
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # noqa: PLC0415 - an extra

        if protocol not in PROTOCOLS:
            raise ValueError(f"FID: unknown protocol {protocol!r}, expected one of {', '.join(PROTOCOLS)}")
        self.protocol = protocol
        file = inception_file(path)
        safe = io.BytesIO()  # the extractor unpickles its file, so it gets one with plain tensors only
        torch.save(read_state(file, "Inception-2015"), safe)
        safe.seek(0)
        try:
            network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=safe)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise BrokenFileError(file, f"not the weights of Inception-2015: {reason}") from None
        skipped = {"fc", "AvgPool"}
        stages = [module for name, module in network.named_children() if name not in skipped]
        self.stages = nn.Sequential(*stages).requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) uint8 -> (B, 2048) float32."""
        x = inception_input(images, self.protocol)  # (B, 3, 299, 299)
        x = self.stages(x)  # (B, 2048, 8, 8)
        return x.mean(dim=(2, 3))  # (B, 2048)


def feature_moments(blocks: Iterable[np.ndarray]) -> Moments:
    """Mean and covariance of features in blocks (n, D), in constant memory.

    Raises:
        ValueError: fewer than two rows.
    """
    count, total, outer = 0, np.zeros(()), np.zeros(())
    for block in blocks:
        rows = np.asarray(block, dtype=np.float64)
        count, total, outer = count + len(rows), total + rows.sum(axis=0), outer + rows.T @ rows
    if count < 2:
        raise ValueError(f"FID: a covariance needs at least 2 images, got {count}")
    mean = total / count
    return Moments(mean, (outer - count * np.outer(mean, mean)) / (count - 1))


def _square_root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def frechet_distance(first: Moments, second: Moments) -> float:
    """|mu1 - mu2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2), between two Gaussians.

    The last trace is computed from the eigenvalues of the symmetric S1^(1/2) S2 S1^(1/2). They are real and need no
    inverse, also for singular covariances. Equal Gaussians give 0 up to rounding, which can be negative.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(f"FID: features of {first.mean.shape} and {second.mean.shape} do not compare")
    offset = first.mean - second.mean
    root = _square_root(first.covariance)
    eigenvalues = np.linalg.eigvalsh(root @ second.covariance @ root)
    root_trace = np.sqrt(eigenvalues.clip(min=0)).sum()
    return float(offset @ offset + np.trace(first.covariance) + np.trace(second.covariance) - 2 * root_trace)


def frechet_distance_of_features(first: np.ndarray, second: np.ndarray) -> float:
    """`frechet_distance` from features (N, D) and (M, D), which is fast and exact for sets smaller than D.

    With A, B the centred features over sqrt(n - 1), the covariances are A^T A and B^T B, and tr (S1 S2)^(1/2) is the
    sum of the singular values of the N x M matrix A B^T.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(f"FID: a covariance needs at least 2 images, got {len(first)} and {len(second)}")
    features = [x.astype(np.float64) for x in (first, second)]
    offset = features[0].mean(axis=0) - features[1].mean(axis=0)
    a, b = ((x - x.mean(axis=0)) / np.sqrt(len(x) - 1) for x in features)
    root_trace = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(offset @ offset + np.square(a).sum() + np.square(b).sum() - 2 * root_trace)


class Extrapolated(NamedTuple):
    """FID for infinitely many generated images, and the slope of the line through the FIDs of smaller sets."""

    value: float
    slope: float  # FID(N) is about value + slope / N
    sizes: tuple[int, ...]  # of the sets


def frechet_distance_at_infinity(
    generated: np.ndarray, real: np.ndarray, seed: int = 0, points: int = 15
) -> Extrapolated:
    """FID without the bias of a finite number of generated images (Chong and Forsyth 2020, arXiv 1911.07023).

    The expected FID is nearly linear in 1 / N. The FIDs of random subsets of several sizes N are fitted by a line,
    whose value at 1 / N = 0 is returned. The bias of the finite real set stays, and is the same for all methods.

    Args:
        generated, real: features (N, D) and (M, D).
        seed: of the subsets.
        points: number of sizes, at equal distances in 1 / N from a third of the images (at least 2) to all of them.
    Raises:
        ValueError: fewer than 6 generated images, from which no line can be fitted.
    """
    count = len(generated)
    if count < 6:
        raise ValueError(f"FID at infinity: needs at least 6 generated images, got {count}")
    inverse = np.linspace(3 / count, 1 / count, points)
    sizes = tuple(dict.fromkeys(round(1 / x) for x in inverse))
    rng = np.random.default_rng(seed)
    full = feature_moments([real]) if max(count, len(real)) >= real.shape[1] else None
    values = []
    for size in sizes:
        chosen = generated[rng.choice(count, size, replace=False)]
        if full is None:
            values.append(frechet_distance_of_features(chosen, real))
        else:
            values.append(frechet_distance(feature_moments([chosen]), full))
    slope, value = np.polyfit(1 / np.array(sizes), values, 1)
    return Extrapolated(float(value), float(slope), sizes)


def kernel_distance(first: np.ndarray, second: np.ndarray, subset_size: int = 1000, seed: int = 2020) -> KernelDistance:
    """KID with torch-fidelity's kernel (x.y / D + 1)^3, 100 subsets drawn without replacement.

    Args:
        first, second: features (N, D) and (M, D).
        subset_size: images per subset; at most the size of the smaller set.
        seed: of the subsets; torch-fidelity's default.
    """
    from torch_fidelity.metric_kid import kid_features_to_metric  # noqa: PLC0415 - an extra

    size = min(subset_size, len(first), len(second))
    if size < 2:
        raise ValueError(f"KID: needs at least 2 images in each set, got {len(first)} and {len(second)}")
    features = [torch.from_numpy(x.astype(np.float64)) for x in (first, second)]  # float32 is too coarse for the cube
    result = kid_features_to_metric(*features, kid_subset_size=size, rng_seed=seed, verbose=False)
    return KernelDistance(
        result["kernel_inception_distance_mean"], result["kernel_inception_distance_std"], subset_size=size
    )
