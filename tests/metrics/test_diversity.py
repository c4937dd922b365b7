"""LPIPS: loads torchvision's file, names an absent one, pairs outputs of one condition."""

import pytest
import torch

from midms.metrics.diversity import LPIPS, diversity_pairs

pytest.importorskip("lpips", reason="needs the extra [metrics]")


def test_the_backbone_comes_from_torchvisions_file(tmp_path):
    torch.manual_seed(0)
    network = LPIPS(pretrained=False)
    state = {f"features.{key.partition('.')[2]}": value for key, value in network.metric.net.state_dict().items()}
    torch.save(state, tmp_path / "alex.pth")
    again = LPIPS("alex", tmp_path / "alex.pth")
    a, b = (torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(k)) * 2 - 1 for k in range(2))
    assert torch.equal(network(a, b), again(a, b)) and network(a, b).shape == (2,)
    assert network(a, a).abs().max() == 0
    torch.save({"features.0.weight": state["features.0.weight"]}, tmp_path / "broken.pth")
    with pytest.raises(ValueError, match="no weights for"):
        LPIPS("alex", tmp_path / "broken.pth")


def test_an_absent_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"vgg16-397923af.pth.*get.*put it there"):
        LPIPS("vgg")
    with pytest.raises(ValueError, match="unknown backbone"):
        LPIPS("resnet")


def test_pairs_stay_within_a_condition():
    groups = ["a", "b", "a", "c", "a", "b"]
    assert diversity_pairs(groups) == [(0, 2), (0, 4), (2, 4), (1, 5)]
    assert diversity_pairs(groups, most_per_group=1) == [(0, 2), (1, 5)]
