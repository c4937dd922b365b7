"""The recipe of IP-Adapter with ControlNet on tiny random networks that were saved as users have them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from others.ip_adapter import load_pipeline, translate_pairs
from others.pairs import Pair

transformers = pytest.importorskip("transformers", reason="needs the extra [text]")
PAIRS = [Pair(number=k, name=str(k), condition=f"{k}.jpg", exemplar="e.jpg") for k in range(3)]
PROMPTS = {f"{k:05d}": "a photo" for k in range(3)}
CROSS, CHANNELS, SIDE = 32, (4, 8), 16


def _tokenizer():
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "photo</w>", "a", "p", "h", "o", "t"]
    return transformers.CLIPTokenizer({word: index for index, word in enumerate(words)}, [], model_max_length=8)


def _adapter_state(unet):
    """Random weights in the file format of IP-Adapter: a projection and two matrices per cross-attention layer."""
    state, number = {}, 1
    for name in unet.attn_processors:
        if not name.endswith("attn2.processor"):
            continue
        level = int(name.split(".")[1]) if name[0] != "m" else -1
        widths = CHANNELS[::-1] if name.startswith("up") else CHANNELS
        for kind in ("k", "v"):
            state[f"ip_adapter.{number}.to_{kind}_ip.weight"] = torch.randn(widths[level], CROSS)
        number += 2
    shapes = {"proj.weight": (4 * CROSS, 16), "proj.bias": (4 * CROSS,), "norm.weight": (CROSS,), "norm.bias": (CROSS,)}
    return state | {f"image_proj.{key}": torch.randn(shape) for key, shape in shapes.items()}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of Stable Diffusion, ControlNet and IP-Adapter."""
    from diffusers import (
        AutoencoderKL,
        ControlNetModel,
        DDIMScheduler,
        StableDiffusionControlNetPipeline,
        UNet2DConditionModel,
    )
    from safetensors.torch import save_file

    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    blocks = {"block_out_channels": CHANNELS, "layers_per_block": 1, "norm_num_groups": 1, "cross_attention_dim": CROSS}
    unet = UNet2DConditionModel(
        sample_size=8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=2, **blocks,
    )  # fmt: skip
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8))
    embedding = control.controlnet_cond_embedding.conv_out
    for layer in (embedding, *control.controlnet_down_blocks, control.controlnet_mid_block):
        torch.nn.init.normal_(layer.weight)  # zero at the start of a training
    vae = AutoencoderKL(
        block_out_channels=CHANNELS, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=1,
    )  # fmt: skip
    size = {"hidden_size": CROSS, "intermediate_size": 37, "num_attention_heads": 4, "num_hidden_layers": 1}
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(vocab_size=9, max_position_embeddings=8, bos_token_id=0, eos_token_id=1, **size)
    )
    vision = transformers.CLIPVisionConfig(projection_dim=16, image_size=SIDE, patch_size=8, **size)
    pipe = StableDiffusionControlNetPipeline(
        vae=vae, text_encoder=text, tokenizer=_tokenizer(), unet=unet, controlnet=control,
        scheduler=DDIMScheduler(clip_sample=False), safety_checker=None,
        feature_extractor=transformers.CLIPImageProcessor(size=SIDE, crop_size=SIDE),
        image_encoder=transformers.CLIPVisionModelWithProjection(vision), requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(root / "base")
    control.save_pretrained(root / "controlnet")
    (root / "adapter").mkdir()
    save_file(_adapter_state(unet), root / "adapter" / "ip.safetensors")
    return root


def _load(models, scale):
    names = (str(models / name) for name in ("base", "controlnet", "adapter"))
    return load_pipeline(*names, "ip.safetensors", scale, "cpu", local=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    for role in ("conditions", "exemplars"):
        (root / role).mkdir()
        for pair in PAIRS:
            pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / role / f"{pair.number:05d}.png")
    return root


@pytest.mark.slow
def test_outputs_depend_on_condition_and_exemplar_and_not_on_other_pairs(models, folder, tmp_path):
    pipe = _load(models, 1.0)
    translate_pairs(pipe, folder, PAIRS, PROMPTS, tmp_path / "all", steps=2)
    files = sorted((tmp_path / "all").iterdir())
    assert [file.name for file in files] == ["00000.png", "00001.png", "00002.png"]
    assert Image.open(files[0]).size == (SIDE, SIDE)
    translate_pairs(pipe, folder, PAIRS[1:2], PROMPTS, tmp_path / "one", steps=2)
    assert (tmp_path / "one" / "00001.png").read_bytes() == files[1].read_bytes()
    for role in ("conditions", "exemplars"):  # the first pair with one picture of the second
        changed = tmp_path / role
        for name in ("conditions", "exemplars"):
            (changed / name).mkdir(parents=True)
            source = folder / name / ("00001.png" if name == role else "00000.png")
            (changed / name / "00000.png").write_bytes(source.read_bytes())
        translate_pairs(pipe, changed, PAIRS[:1], PROMPTS, changed / "out", steps=2)
        assert (changed / "out" / "00000.png").read_bytes() != files[0].read_bytes(), role


@pytest.mark.slow
def test_finished_outputs_are_not_made_again(models, folder, tmp_path):
    (tmp_path / "00000.png").write_bytes(b"done before")
    translate_pairs(_load(models, 0.5), folder, PAIRS[:2], PROMPTS, tmp_path, steps=1)
    assert (tmp_path / "00000.png").read_bytes() == b"done before" and (tmp_path / "00001.png").is_file()
