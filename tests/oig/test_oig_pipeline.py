"""OIGPipeline as its users meet it: loading, pictures in, pictures out, errors, and nothing left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_type_hints

import diffusers
import numpy as np
import pytest
import torch
import transformers
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from PIL import Image
from tiny_stable_diffusion import SCHEDULER, tiny_components, tiny_pipeline

from midms.config import ConfigError
from midms.oig import RELEASED_EDIT, RELEASED_INVERSION, OIGPipeline, edit_image
from midms.oig.settings import EditOptions, EditSettings

PIPE = tiny_pipeline(torch.float32)
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 33, 3), dtype=np.uint8))
FAST = {"num_inference_steps": 3}


def modules(pipe: OIGPipeline) -> list[torch.nn.Module]:
    return [m for m in pipe.components.values() if isinstance(m, torch.nn.Module)]


def test_real_image_round_trip_with_all_output_types() -> None:
    start = PIPE.invert([PICTURE, PICTURE], "a cat", **FAST)
    assert start.prompt == ["a cat"] * 2 and start.latents.shape == (2, 4, 6, 10)
    assert start.trajectory.shape == (2, 2, 4, 6, 10) and start.image.shape == (2, 3, 12, 20)
    out = PIPE(start.prompt, "a dog", start.latents, **FAST)
    assert [i.size for i in out.images + out.reconstruction] == [(20, 12)] * 4
    arrays = PIPE(start.prompt, "a dog", start.latents, output_type="np", **FAST)
    assert arrays.images.shape == (2, 12, 20, 3) and 0 <= arrays.images.min() <= arrays.images.max() <= 1
    tensors = PIPE(start.prompt, "a dog", start.latents, output_type="pt", **FAST)
    torch.testing.assert_close(tensors.images.permute(0, 2, 3, 1).numpy(), arrays.images)
    assert out.nsfw_content_detected is None


def test_saved_pipelines_load_again_and_give_the_same(tmp_path: Path) -> None:
    PIPE.save_pretrained(tmp_path)
    again = OIGPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    first, second = (p("a cat", "a dog", generator=torch.Generator().manual_seed(1), **FAST) for p in (PIPE, again))
    assert np.array_equal(np.asarray(first.images[0]), np.asarray(second.images[0]))


def test_a_plain_stable_diffusion_folder_loads(tmp_path: Path) -> None:
    """Its index names another pipeline, another scheduler and no CLIP."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    parts = tiny_components()
    clip = parts.pop("clip_model")
    parts["scheduler"] = PNDMScheduler(**{k: v for k, v in SCHEDULER.items() if k != "clip_sample"}, steps_offset=1)
    stable = StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, image_encoder=None, requires_safety_checker=False
    )
    stable.save_pretrained(tmp_path)
    pipe = OIGPipeline.from_pretrained(tmp_path, clip_model=clip)
    assert type(pipe.scheduler).__name__ == "DDIMScheduler" and pipe.clip_model is clip
    torch.testing.assert_close(pipe.scheduler.alphas_cumprod, PIPE.scheduler.alphas_cumprod)
    without = OIGPipeline.from_pretrained(tmp_path)
    without.set_progress_bar_config(disable=True)
    with pytest.raises(ValueError, match="clip_model: expected a CLIPModel, got none"):
        without("a cat", "a dog", **FAST)
    assert without("a cat", "a dog", clip_weight=0.0, **FAST).images


@pytest.mark.parametrize("failing", [False, True])
def test_nothing_is_left_behind(failing: bool) -> None:
    """No hook, no .grad, and the networks as trainable as before; also when a callback raises in the middle."""
    pipe = tiny_pipeline(torch.float32)
    pipe.unet.train().requires_grad_(True)

    def stop(step: Any) -> None:
        if failing and step.k == 1:
            raise KeyError("stop")

    try:
        pipe("a cat", "a dog", cycle_weight=0.1, on_step=stop, **FAST)
    except KeyError:
        assert failing
    for module in modules(pipe):
        assert all(p.grad is None for p in module.parameters())
        assert all(not m._forward_hooks and not m._forward_pre_hooks for m in module.modules())
    assert pipe.unet.training and all(p.requires_grad for p in pipe.unet.parameters())


def test_step_records_hold_no_graph() -> None:
    steps: list[Any] = []
    PIPE("a cat", "a dog", on_step=steps.append, **FAST)
    assert [s.k for s in steps] == [0, 1, 2]
    assert not steps[0].terms.loss.requires_grad and not steps[0].evaluation.target_noise.requires_grad


@pytest.mark.parametrize("mode", ["checkpointing", pytest.param("compile", marks=pytest.mark.slow)])
def test_switches_change_nothing_but_cost(mode: str) -> None:
    options = {"clip_weight": 3.0, "structure_weight": 3.0, "output_type": "latent", **FAST}
    pipe = tiny_pipeline()
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    before = pipe("a cat", "a dog", latents, **options).latents
    if mode == "checkpointing":
        pipe.enable_gradient_checkpointing()
    else:
        pipe.compile_networks(backend="eager")
    torch.testing.assert_close(pipe("a cat", "a dog", latents, **options).latents, before)


def test_bfloat16_networks_keep_float32_latents() -> None:
    pipe = tiny_pipeline(torch.bfloat16)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    low, high = (p("a cat", "a dog", latents, **FAST).latents for p in (pipe, PIPE))
    assert low.dtype == torch.float32
    assert (low - high).norm() < 0.05 * high.norm()
    assert pipe.invert(PICTURE, "a cat", **FAST).latents.dtype == torch.float32


def test_velocity_models_run() -> None:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    scheduler = DDIMScheduler(**SCHEDULER, prediction_type="v_prediction")
    pipe = tiny_pipeline(torch.float32, scheduler=scheduler)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    ours, epsilon = (p("a cat", "a dog", latents, **FAST).latents for p in (pipe, PIPE))
    assert torch.isfinite(ours).all() and not torch.allclose(ours, epsilon)


def test_released_mode() -> None:
    generator = torch.Generator().manual_seed(0)
    start = PIPE.invert(PICTURE, "a cat", generator=generator, **RELEASED_INVERSION, **FAST)
    assert start.latents.shape == (1, 4, 8, 8)
    assert PIPE(start.prompt, "a dog", start.latents, **RELEASED_EDIT, **FAST).images[0].size == (16, 16)


@pytest.mark.parametrize("mode", ["RGBA", "L", "CMYK", "P"])
def test_picture_modes(mode: str) -> None:
    assert PIPE.invert(PICTURE.convert(mode), "a cat", **FAST).latents.shape == (1, 4, 6, 10)


def test_generated_sizes() -> None:
    out = PIPE("a cat", "a dog", height=12, width=20, negative_prompt="", **FAST)
    assert out.images[0].size == (20, 12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prompt": ""}, r"prompt\[0\]: expected a prompt, got an empty text"),
        ({"target_prompt": " "}, r"target_prompt\[0\]"),
        ({"target_prompt": []}, "empty list"),
        ({"prompt": ["a", "b", "c"], "latents": torch.zeros(2, 4, 8, 8)}, "3 prompts for 2 images"),
        ({"target_prompt": ["a", "b"], "latents": torch.zeros(3, 4, 8, 8)}, "2 prompts for 3 images"),
        ({"prompt": ["a", "b"], "target_prompt": ["a", "b", "c"]}, "2 prompts for 3 images"),
        ({"negative_prompt": ["a", "b"]}, "negative_prompt: got 2 prompts for 1 images"),
        ({"num_inference_steps": 1}, "at least 2, got 1"),
        ({"latents": torch.zeros(4, 8, 8)}, r"latents: expected \(B, 4, H, W\), got \(4, 8, 8\)"),
        ({"latents": torch.zeros(1, 4, 7, 8)}, "multiples of 4, got 14 x 16"),
        ({"height": 18}, "multiples of 4"),
        ({"output_type": "jpg"}, "output_type must be"),
        ({"structure_margin": -1.0}, "structure_margin"),
    ],
)
def test_refusals(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PIPE(**({"prompt": "a cat", "target_prompt": "a dog", **FAST} | options))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prompt": None}, "no captioner; give a prompt"),
        ({"prompt": ["a", "b"]}, "2 prompts for 1 images"),
        ({"image": []}, "empty list"),
        ({"schedule": "fast"}, "got 'fast'"),
        ({"resolution": 30}, "multiple of 4, got 30"),
        ({"num_inference_steps": 1}, "at least 2"),
    ],
)
def test_refusals_of_invert(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PIPE.invert(**({"image": PICTURE, "prompt": "a cat", **FAST} | options))


class Captioner:
    """Answers like BLIP and its processor."""

    device, dtype = torch.device("cpu"), torch.float32

    def __call__(self, images: list[Image.Image], return_tensors: str) -> Any:
        assert all(image.mode == "RGB" for image in images)
        self.count = len(images)
        return self

    def to(self, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        return {"pixel_values": torch.zeros(self.count)}

    def generate(self, pixel_values: torch.Tensor, max_new_tokens: int) -> torch.Tensor:
        return torch.zeros(len(pixel_values), 1)

    def batch_decode(self, tokens: torch.Tensor, skip_special_tokens: bool) -> list[str]:
        return [" a cat on a bed "] * len(tokens)


def test_captions_become_prompts_and_tasks_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    captioner = Captioner()
    monkeypatch.setattr(PIPE, "captioner", captioner)
    monkeypatch.setattr(PIPE, "caption_processor", captioner)
    start = PIPE.invert([PICTURE.convert("L")] * 2, **FAST)
    assert start.prompt == ["a cat on a bed"] * 2
    assert PIPE.target_prompts(start.prompt, "cat2dog") == ["a dog on a bed"] * 2
    assert PIPE.target_prompts("two cats", "cat2dog")[0] in ("dog cats", "two dogs")


def test_blip_itself_captions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A tiny random BLIP: its words mean nothing, the calls do."""
    tower = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", "cat", "bed"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    specials = {"bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    text = tower | {"vocab_size": len(words), "max_position_embeddings": 64, "encoder_hidden_size": 16} | specials
    config = transformers.BlipConfig(text_config=text, vision_config=tower | {"image_size": 32, "patch_size": 16})
    processor = transformers.BlipProcessor(
        transformers.BlipImageProcessor(size={"height": 32, "width": 32}),
        transformers.BertTokenizer.from_pretrained(tmp_path),
    )
    monkeypatch.setattr(PIPE, "captioner", transformers.BlipForConditionalGeneration(config).eval())
    monkeypatch.setattr(PIPE, "caption_processor", processor)
    captions = PIPE.caption([PICTURE, PICTURE.convert("L")])
    assert len(captions) == 2 and all(isinstance(c, str) for c in captions)


def test_edit_image_for_programs() -> None:
    edit = edit_image(PIPE, PICTURE, source_prompt="a cat", task="cat2dog", **FAST)
    assert edit.target_prompt == "a dog" and edit.image.size == edit.reconstruction.size == (20, 12)
    made = edit_image(PIPE, source_prompt="a cat", target_prompt="a dog", seed=3, **FAST)
    again = edit_image(PIPE, source_prompt="a cat", target_prompt="a dog", seed=3, **FAST)
    assert np.array_equal(np.asarray(made.image), np.asarray(again.image))
    assert made.settings["edit"] == {"negative_prompt": ""}
    with pytest.raises(ValueError, match="either a target prompt or a task"):
        edit_image(PIPE, PICTURE, source_prompt="a cat")
    with pytest.raises(ValueError, match="to generate a picture from"):
        edit_image(PIPE, target_prompt="a cat")


def test_an_unknown_argument_is_named_with_the_known_ones() -> None:
    with pytest.raises(
        TypeError, match="edit_image: got an unknown argument 'steps', expected some of edit_options, inv"
    ):
        edit_image(PIPE, PICTURE, source_prompt="a cat", target_prompt="a dog", steps=3)
    with pytest.raises(
        TypeError, match="OIGPipeline: got an unknown argument 'clip', expected some of clip_antialias, "
    ):
        PIPE("a cat", "a dog", clip=0.5)


def test_the_options_of_an_edit_are_its_settings_and_three_more() -> None:
    settings = get_type_hints(EditSettings)
    options = get_type_hints(EditOptions)
    assert {name: options.get(name) for name in settings} == settings
    assert options.keys() - settings.keys() == {"negative_prompt", "height", "width"}


class Checker(torch.nn.Module):
    """A safety checker that flags everything, and its feature extractor."""

    dtype, device = torch.float32, torch.device("cpu")

    def forward(self, images: np.ndarray, clip_input: torch.Tensor) -> tuple[np.ndarray, list[bool]]:
        return np.zeros_like(images), [True] * len(images)


def test_safety_checker_blackens_what_it_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pixels:
        pixel_values = torch.zeros(1, 3, 2, 2)

    monkeypatch.setattr(PIPE, "safety_checker", Checker())
    monkeypatch.setattr(PIPE, "feature_extractor", lambda images, return_tensors: Pixels())
    out = PIPE("a cat", "a dog", **FAST)
    assert out.nsfw_content_detected == [True]
    assert not np.asarray(out.images[0]).any() and np.asarray(out.reconstruction[0]).any()


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        ("FlowMatchEulerDiscreteScheduler", "no table of betas"),
        ("EDMEulerScheduler", "no table of betas"),
        ("EDMDPMSolverMultistepScheduler", "no table of betas"),
    ],
)
def test_schedulers_without_a_table_of_betas_are_refused(scheduler: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"{scheduler}: {words}"):
        tiny_pipeline(torch.float32, scheduler=getattr(diffusers, scheduler)())


def test_what_a_model_predicts_is_checked_when_it_is_made() -> None:
    flow = diffusers.DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")
    with pytest.raises(ConfigError, match="no table of betas"):
        tiny_pipeline(torch.float32, scheduler=flow)
    with pytest.raises(ConfigError, match="prediction_type is 'sample', expected one of epsilon, v_prediction"):
        tiny_pipeline(torch.float32, scheduler=diffusers.DDIMScheduler(**SCHEDULER, prediction_type="sample"))


def test_an_inpainting_unet_is_refused_in_one_line() -> None:
    config = dict(tiny_components()["unet"].config) | {"in_channels": 9, "_use_default_values": []}
    unet = diffusers.UNet2DConditionModel.from_config(config)
    with pytest.raises(ConfigError, match="the U-Net reads 9 channels, latents have 4"):
        tiny_pipeline(torch.float32, unet=unet)
