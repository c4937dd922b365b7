"""Feature networks: names and sizes of maps, weights in both layouts, and clear words about absent files."""

import pytest
import torch
from diffusers import VQModel

from midms.losses.perceptual import FirstStageFeatures, VGG19Features, caffe_preprocess, vgg19_file


@pytest.fixture(scope="module")
def vgg():
    torch.manual_seed(0)
    return VGG19Features("random")


def test_maps_have_the_names_and_sizes_of_vgg(vgg):
    maps = vgg(torch.zeros(1, 3, 32, 48))
    assert {name: tuple(m.shape[1:]) for name, m in maps.items()} == {
        "relu1_2": (64, 32, 48),
        "relu2_2": (128, 16, 24),
        "relu3_2": (256, 8, 12),
        "relu4_2": (512, 4, 6),
        "relu5_2": (512, 2, 3),
    }
    assert all(m.min() >= 0 for m in maps.values())


def test_the_network_is_frozen_but_lets_gradients_through(vgg):
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    vgg(images)["relu2_2"].sum().backward()
    assert images.grad is not None and all(p.grad is None for p in vgg.parameters())


def test_later_layers_are_not_computed(vgg):
    calls = []
    handles = [m.register_forward_hook(lambda *_, name=name: calls.append(name)) for name, m in vgg.named_children()]
    full, vgg.layers = vgg.layers, ("relu2_1",)
    assert list(vgg(torch.zeros(1, 3, 16, 16))) == ["relu2_1"]
    vgg.layers = full
    for handle in handles:
        handle.remove()
    assert calls == ["conv1_1", "conv1_2", "conv2_1"]


def test_both_files_load_and_agree_up_to_preprocessing(vgg, tmp_path):
    state = vgg.state_dict()
    torch.save(state, tmp_path / "vgg19_conv.pth")
    stages = {1: [0, 2], 2: [5, 7], 3: [10, 12, 14, 16], 4: [19, 21, 23, 25], 5: [28, 30, 32, 34]}
    torchvision = {
        f"features.{position}.{part}": state[f"conv{stage}_{k + 1}.{part}"]
        for stage, positions in stages.items()
        for k, position in enumerate(positions)
        for part in ("weight", "bias")
    }
    torch.save({**torchvision, "classifier.0.weight": torch.zeros(1)}, tmp_path / "vgg19-dcbb9e9d.pth")
    caffe = VGG19Features("caffe", tmp_path / "vgg19_conv.pth", layers=["relu1_1"])
    ours = VGG19Features("torchvision", tmp_path / "vgg19-dcbb9e9d.pth", layers=["relu1_1"])
    for name, value in vgg.state_dict().items():
        assert torch.equal(caffe.state_dict()[name], value) and torch.equal(ours.state_dict()[name], value)
    images = torch.rand(1, 3, 8, 8)
    expected = torch.relu(torch.nn.functional.conv2d(caffe_preprocess(images), *vgg.conv1_1.parameters(), padding=1))
    torch.testing.assert_close(caffe(images)["relu1_1"], expected)


@pytest.mark.parametrize(("weights", "name"), [("torchvision", "vgg19-dcbb9e9d.pth"), ("caffe", "vgg19_conv.pth")])
def test_an_absent_file_is_named_with_its_origin_and_place(weights, name, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"{name}.*get.*from https?://|README of https") as error:
        VGG19Features(weights)
    assert str(tmp_path / "hub" / "checkpoints" / name) in str(error.value)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save({"other": torch.zeros(1)}, tmp_path / "hub" / "checkpoints" / name)
    assert vgg19_file(weights).is_file()
    with pytest.raises(ValueError, match=r"not the weights of VGG-19"):
        VGG19Features(weights)


def test_an_unknown_layer_is_named():
    with pytest.raises(ValueError, match="relu9_9"):
        VGG19Features("random", layers=["relu9_9"])


def test_first_stage_features_are_those_of_its_encoder():
    torch.manual_seed(0)
    first_stage = VQModel(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 24),
        layers_per_block=1,
        norm_num_groups=4,
        num_vq_embeddings=16,
    ).train()
    network = FirstStageFeatures(first_stage).train()
    images = torch.rand(1, 3, 16, 24, requires_grad=True)
    maps = network(images)
    assert tuple(maps) == network.layers == ("down0", "down1", "down2", "mid")
    assert maps["down0"].shape == (1, 8, 8, 12) and maps["mid"].shape == (1, 24, 4, 6)
    encoder = first_stage.encoder
    latent = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(maps["mid"])))
    torch.testing.assert_close(latent, encoder(images))
    maps["mid"].sum().backward()
    assert images.grad is not None and not encoder.training
    assert all(p.grad is None for p in network.parameters())
