"""Metrics of edits on small random networks: identities, hand values, independence of the batch, and errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from midms.metrics.edits import (
    ClipNetwork,
    background_lpips,
    clip_similarity,
    dino_keys,
    load_clip,
    load_dino,
    self_similarity,
    structure_distance,
)

transformers = pytest.importorskip("transformers")


def images(count: int = 2, height: int = 40, width: int = 56, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(**sizes, image_size=32, patch_size=8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.ViTModel(config, add_pooling_layer=False).eval()


class Tokenizer:
    """One letter, one token; ends with the highest id."""

    def __call__(self, texts: list[str], max_length: int, **options: Any) -> Any:
        rows = [[*(ord(c) % 60 for c in text[: max_length - 1]), 61] for text in texts]
        self.input_ids = torch.tensor([row + [61] * (max_length - len(row)) for row in rows])
        return self


@pytest.fixture(scope="module")
def clip() -> ClipNetwork:
    tower = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.CLIPConfig(
        text_config=tower | {"vocab_size": 62, "max_position_embeddings": 12, "eos_token_id": 61},
        vision_config=tower | {"image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ClipNetwork(transformers.CLIPModel(config).eval(), Tokenizer())


def test_clip_similarity_is_a_cosine_per_image(clip: ClipNetwork) -> None:
    pictures, prompts = images(), ["a dog", "a zebra"]
    both = clip_similarity(clip, pictures, prompts)
    assert both.shape == (2,) and both.dtype == torch.float64 and both.abs().max() <= 1
    for i in range(2):
        torch.testing.assert_close(
            clip_similarity(clip, pictures[i : i + 1], prompts[i : i + 1])[0], both[i], rtol=1e-5, atol=1e-6
        )
    pixels = {"pixel_values": torch.zeros(1, 3, 32, 32)}
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
    embedding = clip.model.get_image_features(**pixels).pooler_output
    text = clip.model.get_text_features(input_ids=Tokenizer()(["a dog"], 12).input_ids).pooler_output
    expected = torch.cosine_similarity(embedding, text)[0].double()
    grey = clip_similarity(clip, mean.expand(1, 3, 50, 32), ["a dog"])[0]
    torch.testing.assert_close(grey, expected.detach(), rtol=1e-5, atol=1e-6)


def test_structure_distance_of_an_image_with_itself_is_zero(vit: nn.Module) -> None:
    pictures = images()
    assert structure_distance(vit, pictures, pictures, size=32).abs().max() == 0
    apart = structure_distance(vit, pictures, images(seed=1), size=32)
    assert apart.shape == (2,) and (apart > 0).all()
    torch.testing.assert_close(apart, structure_distance(vit, images(seed=1), pictures, size=32))


def test_keys_are_those_of_the_last_block(vit: nn.Module) -> None:
    keys = dino_keys(vit, images(1, 32, 32), size=32)
    assert keys.shape == (1, 1 + 16, 16)
    assert dino_keys(vit, images(1), size=64).shape == (1, 1 + 64, 16)
    assert not any(m._forward_hooks for m in vit.modules())
    block = vit.layers[-1] if hasattr(vit, "layers") else vit.encoder.layer[-1]
    layer = [m for n, m in block.named_modules() if n.rpartition(".")[2] in ("k_proj", "key")]
    seen: list[Tensor] = []
    handle = layer[0].register_forward_hook(lambda m, i, output: seen.append(output))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        vit(pixel_values=(images(1, 32, 32) - mean) / std)
    handle.remove()
    torch.testing.assert_close(keys, seen[0])


def test_self_similarity_by_hand() -> None:
    keys = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]])
    root = 0.5**0.5
    expected = torch.tensor([[[1, 0, root], [0, 1, root], [root, root, 1]]], dtype=torch.float64)
    torch.testing.assert_close(self_similarity(keys), expected)


class Squares(nn.Module):
    """A stand-in for LPIPS: mean squared difference, (B, 1, 1, 1)."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().mean(dim=(1, 2, 3), keepdim=True)


def test_background_ignores_the_object_and_nothing_else() -> None:
    source, mask = images(), torch.zeros(2, 1, 40, 56)
    mask[:, :, 10:30, 20:40] = 1
    inside, outside = source.clone(), source.clone()
    inside[:, :, 10:30, 20:40] = 0.5
    outside[1, :, :10] = 0
    assert background_lpips(Squares(), source, inside, mask).abs().max() == 0
    distances = background_lpips(Squares(), source, outside, mask)
    assert distances[0] == 0 and distances[1] > 0
    torch.testing.assert_close(
        background_lpips(Squares(), source, outside, 0 * mask), Squares()(2 * source, 2 * outside).flatten()
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"edited": images(2, 40, 40)}, r"edited: expected the source's shape \(2, 3, 40, 56\)"),
        ({"source": images()[0]}, r"source: expected floats"),
        ({"source": (images() * 255).to(torch.uint8)}, "got .* torch.uint8"),
        ({"mask": torch.zeros(2, 40, 56)}, r"mask: expected \(2, 1, 40, 56\)"),
        ({"mask": torch.full((2, 1, 40, 56), 255.0)}, r"0\.\.1, got 255"),
        ({"mask": torch.ones(2, 1, 40, 56)}, "no background"),
    ],
)
def test_refusals(change: dict[str, Tensor], words: str) -> None:
    arguments = {"source": images(), "edited": images(), "mask": torch.zeros(2, 1, 40, 56)} | change
    with pytest.raises(ValueError, match=words):
        background_lpips(Squares(), **arguments)


def test_one_prompt_per_image(clip: ClipNetwork) -> None:
    with pytest.raises(ValueError, match=r"one per image \(2\), got 1"):
        clip_similarity(clip, images(), ["a"])


@pytest.mark.parametrize("load", [load_clip, load_dino])
def test_absent_networks_are_named(load: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"cannot load /none: .*hf download /none"):
        load("/none")
