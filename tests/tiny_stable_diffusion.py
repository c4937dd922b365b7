"""A Stable Diffusion of 0.2 M random parameters, in memory, for tests."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from midms.oig.pipeline import OIGPipeline

LENGTH = 16
SCHEDULER = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}


def tiny_tokenizer() -> CLIPTokenizer:
    """Letter by letter: no merges."""
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = {word: index for index, word in enumerate(words)}
        (Path(folder) / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        (Path(folder) / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
        options = {"model_max_length": LENGTH, "tokenizer_class": "CLIPTokenizer"}
        (Path(folder) / "tokenizer_config.json").write_text(json.dumps(options), encoding="utf-8")
        return CLIPTokenizer.from_pretrained(folder, model_max_length=LENGTH)


def tiny_components(seed: int = 0) -> dict[str, Any]:
    """The components of `OIGPipeline`, float32, in evaluation mode."""
    tokenizer = tiny_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": LENGTH,
        "projection_dim": 16,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
        "projection_dim": 16,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=24,
            attention_head_dim=2,
            norm_num_groups=8,
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=8,
            sample_size=16,
        )
        text_encoder = CLIPTextModel(CLIPTextConfig(**text))
        clip_model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    networks = {"unet": unet, "vae": vae, "text_encoder": text_encoder, "clip_model": clip_model}
    with torch.no_grad():  # default initialisation leaves the prompts nearly without influence
        for name, parameter in text_encoder.named_parameters():
            if "token_embedding" in name:
                parameter.mul_(40)
    scheduler = DDIMScheduler(**SCHEDULER, set_alpha_to_one=False, steps_offset=1)
    return {name: module.eval() for name, module in networks.items()} | {"tokenizer": tokenizer, "scheduler": scheduler}


def tiny_pipeline(dtype: torch.dtype = torch.float64, seed: int = 0, **replaced: Any) -> OIGPipeline:
    """`OIGPipeline` on the tiny components; 16-pixel images, sides in multiples of 4."""
    pipeline = OIGPipeline(**(tiny_components(seed) | replaced))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(dtype=dtype)
