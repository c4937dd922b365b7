"""LPIPS (Zhang et al. 2018): a distance to the truth, and, between outputs of one condition, a measure of diversity.

In this literature LPIPS is reported as diversity (higher is better) among outputs of one condition under
different exemplars. The network and the number of pairs are not published.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal, get_args

from torch import Tensor, nn

from midms.io.weights import load_state, read_state
from midms.losses.perceptual import torch_checkpoint_folder

Backbone = Literal["alex", "vgg"]
_FILES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}


def lpips_file(backbone: Backbone = "alex", path: str | Path | None = None) -> Path:
    """The file with the backbone's weights: `path`, or torchvision's file in torch's cache.

    Raises:
        FileNotFoundError: absent; the message says which file, from where, and where to put it.
    """
    if backbone not in _FILES:
        raise ValueError(f"LPIPS: unknown backbone {backbone!r}, expected one of {', '.join(get_args(Backbone))}")
    name = _FILES[backbone]
    file = Path(path) if path is not None else torch_checkpoint_folder() / name
    if not file.is_file():
        raise FileNotFoundError(
            f"LPIPS backbone ({backbone}): no file {file}; get {name} from https://download.pytorch.org/models/{name} "
            "and put it there, or give its path"
        )
    return file


class LPIPS(nn.Module):
    """LPIPS 0.1 with the learnt heads of the `lpips` package and the backbone of torchvision's file.

    Args:
        backbone: "alex" or "vgg".
        path: the backbone's weights; by default torchvision's file in torch's cache.
        pretrained: False leaves the backbone as initialised (tests).
    Raises:
        FileNotFoundError: no weights. ImportError: `lpips` is not installed.
    """

    def __init__(self, backbone: Backbone = "alex", path: str | Path | None = None, pretrained: bool = True) -> None:
        super().__init__()
        import lpips  # noqa: PLC0415 - of the extra "metrics"

        file = lpips_file(backbone, path) if pretrained else None
        with warnings.catch_warnings():  # the package passes deprecated arguments to torchvision
            warnings.simplefilter("ignore")
            self.metric = lpips.LPIPS(net=backbone, pnet_rand=True, verbose=False)
        if file is not None:
            self._load(file)
        self.requires_grad_(False).eval()

    def _load(self, file: Path) -> None:
        """Copy torchvision's `features.N.*` into the package's `sliceK.N.*`."""
        state = read_state(file, "LPIPS' backbone")
        network = self.metric.net
        missing = [key for key in network.state_dict() if f"features.{key.partition('.')[2]}" not in state]
        if missing:
            raise ValueError(f"{file}: not the backbone of LPIPS: no weights for {missing[0]}")
        renamed = {key: state[f"features.{key.partition('.')[2]}"] for key in network.state_dict()}
        load_state(network, renamed, file, "LPIPS' backbone")

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] -> distances (B,)."""
        return self.metric(a, b).flatten()  # (B,)


def diversity_pairs(groups: Sequence[Hashable], most_per_group: int | None = None) -> list[tuple[int, int]]:
    """Pairs of outputs of one condition, as indices.

    Args:
        groups: the condition of each output.
        most_per_group: largest number of pairs per condition, the first ones in order; None: all pairs.
    Returns:
        Indices (i, j), i < j, grouped by condition.
    """
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    return [pair for indices in members.values() for pair in list(combinations(indices, 2))[:most_per_group]]
