"""Counterparts of FID, LPIPS and the VGG cosines on the frozen first stage's own encoder ("-E").

They need no file except the measured weights, so every table has numbers without Inception or VGG files. They are not
the published metrics and can be compared only between rows with the same first stage. The same metrics on a fixed
network ("-L", `midms.metrics.fixed_features`) can be compared between releases of our weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from midms.evaluation.folders import ImageFolder, PairedFolders
from midms.evaluation.metrics import OutputPairs, condition_of
from midms.evaluation.rows import RowStore, fill
from midms.losses.perceptual import FeatureNetwork
from midms.metrics.diversity import diversity_pairs
from midms.metrics.fidelity import feature_moments, frechet_distance, frechet_distance_of_features
from midms.metrics.truth import feature_distance


class Layers(NamedTuple):
    """Layers of a network: of the scores of colour and texture, and of semantic content and distances between sets."""

    colour: str
    texture: str
    semantic: str


#: Of a first stage's encoder.
COLOUR, TEXTURE, SEMANTIC = "down0", "down1", "mid"
#: Of EfficientNet-Lite0 (`midms.metrics.fixed_features`).
FIXED_LAYERS = Layers("block0", "block2", "block10")


class EncoderMetrics:
    """Metrics on the maps of a first stage, or of another feature network.

    Args:
        features: the network's maps by layer.
        key: hash of the network's weights, for the cache.
        cache: folder for rows, shared by all ranks.
        device, batch_size: of the network.
        layers: of the network.
    """

    def __init__(
        self,
        features: FeatureNetwork,
        key: str,
        cache: Path,
        device: str = "cpu",
        batch_size: int = 16,
        layers: Layers = Layers(COLOUR, TEXTURE, SEMANTIC),  # noqa: B008 - a tuple of constants
    ) -> None:
        self.features, self.key, self.cache = features, key, cache
        self.device, self.batch_size, self.layers = device, batch_size, layers
        if isinstance(features, nn.Module):
            features.to(device)

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 (B, 3, H, W) to maps by layer."""
        return self.features(images.to(self.device).float() / 127.5 - 1)

    def channel_means(self, folder: ImageFolder) -> dict[str, np.ndarray]:
        """Each layer's maps averaged over positions, {layer: (N, C)}."""
        with torch.inference_mode():
            maps = self.maps(folder[0][None])
        widths = {layer: maps[layer].shape[1] for layer in self.layers}
        key = f"channel means|{self.key}\n{folder.fingerprint()}"
        store = RowStore(self.cache, key, len(folder), sum(widths.values()))

        def pool(batch: Tensor, _: list[int]) -> list[Tensor]:
            maps = self.maps(batch)
            return [torch.cat([maps[layer].mean(dim=(2, 3)) for layer in widths], dim=1)]

        fill([store], folder, pool, self.batch_size, "encoder features")
        parts = np.split(store.read(), np.cumsum(list(widths.values()))[:-1], axis=1)
        return dict(zip(widths, parts, strict=True))

    def frechet(self, first: ImageFolder, second: ImageFolder) -> float:
        """FD: Frechet distance between the sets' channel means of the last layer."""
        a, b = (self.channel_means(folder)[self.layers.semantic] for folder in (first, second))
        if max(len(a), len(b)) < a.shape[1]:
            distance = frechet_distance_of_features(a, b)
        else:
            distance = frechet_distance(feature_moments([a]), feature_moments([b]))
        return max(0.0, distance)  # rounding can give less than 0 for equal sets

    def cosines(self, first: ImageFolder, second: ImageFolder, role: str) -> dict[str, np.ndarray]:
        """Cosine of the channel means of each pair by layer, {layer: (N,)}; partners are found by name."""
        indices = PairedFolders(first, second, role).indices
        a, b = self.channel_means(first), self.channel_means(second)
        return {layer: _cosine(a[layer], b[layer][indices]) for layer in a}

    def style_scores(
        self, generated: ImageFolder, exemplars: ImageFolder, sources: ImageFolder
    ) -> dict[str, np.ndarray]:
        """Cosines of the channel means: {"colour", "texture": to the exemplar, "semantic": to the photo}, (N,) each."""
        to_exemplar = self.cosines(generated, exemplars, "exemplars")
        to_source = self.cosines(generated, sources, "reference")
        return {
            "colour": to_exemplar[self.layers.colour],
            "texture": to_exemplar[self.layers.texture],
            "semantic": to_source[self.layers.semantic],
        }

    def distance(self, first: ImageFolder, second: ImageFolder, role: str) -> np.ndarray:
        """`feature_distance` of each pair, (N,); partners are found by name."""
        return self._distances(PairedFolders(first, second, role))

    def diversity(self, folder: ImageFolder) -> np.ndarray:
        """`feature_distance` between outputs of one condition (CONDITION__EXEMPLAR.png), one number per pair."""
        return self._distances(OutputPairs(folder, diversity_pairs([condition_of(name) for name in folder.names])))

    def _distances(self, pairs: PairedFolders | OutputPairs) -> np.ndarray:
        store = RowStore(self.cache, f"distance|{self.key}\n{pairs.fingerprint()}", len(pairs), 1)

        def measure(batch: tuple[Tensor, Tensor], _: list[int]) -> list[Tensor]:
            return [feature_distance(self.maps(batch[0]), self.maps(batch[1]))[:, None]]

        fill([store], pairs, measure, self.batch_size, "encoder distance")
        return store.read()[:, 0].astype(np.float64)


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    first, second = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(axis=1) / np.maximum(norms, 1e-12)
