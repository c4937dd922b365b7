"""How the networks compute is chosen by their size and the device, and changed in place; what they compute is not."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import nn

from benchmarks.networks import random_model
from midms.models import numerics
from midms.models.midms import MIDMs
from midms.models.numerics import fused_attention, set_dtype_and_memory_format, weights_to_come
from midms.pipelines.midms import MIDMsPipeline

CPU = torch.device("cpu")


class Model:
    """As much of a MIDMs as the choice looks at."""

    def __init__(self, parameters: int, kind: str = "vq") -> None:
        self.denoiser = nn.Linear(parameters, 1, bias=False, device="meta")
        self.first_stage = type("Stage", (), {"kind": kind})()

    def networks(self) -> list[nn.Module]:
        return [self.first_stage, self.denoiser]


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_f": True, "avx512_bf16": False}, False),  # AVX-512 alone has no bfloat16
        ({"avx512_bf16": True}, True),
        ({"amx_tile": True, "amx_bf16": True}, True),
        ({}, False),
    ],
)
def test_bfloat16_needs_instructions_for_it(monkeypatch, features: dict[str, bool], expected: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features, raising=False)
    assert numerics.has_bfloat16(CPU) is expected
    assert (numerics.best_dtype(Model(274_056_163), CPU) == torch.bfloat16) is expected
    assert numerics.best_dtype(Model(274_056_163, "kl"), CPU) == torch.float32
    assert numerics.best_dtype(Model(2_000_000), CPU) == torch.float32


def test_a_torch_that_does_not_describe_the_processor_computes_in_float32(monkeypatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not numerics.has_bfloat16(CPU) and not numerics.has_bfloat16(torch.device("meta"))


def test_large_networks_are_configured_on_their_own(monkeypatch, tiny_pipeline_folder) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    pipe = MIDMsPipeline.from_pretrained(tiny_pipeline_folder).configure()
    assert pipe.computation == ("float32", False)
    monkeypatch.setattr(numerics, "LARGE", 1000)
    assert pipe.configure().computation == ("bfloat16", True)
    assert next(pipe.model.encoders.parameters()).dtype == torch.float32
    assert pipe.model.denoiser.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    plain = MIDMsPipeline.from_pretrained(tiny_pipeline_folder).configure("float32", fast=False)
    assert plain.computation == ("float32", False)


@pytest.fixture
def model() -> MIDMs:
    return random_model("tiny")


def attentions(model: MIDMs) -> list[Attention]:
    return [module for module in model.modules() if isinstance(module, Attention)]


@torch.no_grad()
def eps_of(model: MIDMs) -> torch.Tensor:
    latent = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return model.denoiser(latent.to(next(model.denoiser.parameters()).dtype), torch.tensor([10, 500])).float()


def test_fused_attention_gives_the_same_numbers(model: MIDMs) -> None:
    for module in attentions(model):
        module.set_processor(AttnProcessor())
    plain = eps_of(model)
    fused_attention(model)
    assert len(attentions(model)) > 2
    assert all(isinstance(module.processor, AttnProcessor2_0) for module in attentions(model))
    torch.testing.assert_close(eps_of(model), plain, rtol=0, atol=1e-5)


def test_the_encoders_keep_their_precision_and_layout(model: MIDMs) -> None:
    plain = eps_of(model)
    set_dtype_and_memory_format(model, torch.bfloat16, channels_last=True)
    assert {p.dtype for p in model.denoiser.parameters()} == {p.dtype for p in model.first_stage.parameters()}
    assert next(model.denoiser.parameters()).dtype == torch.bfloat16
    kernels = [p for p in model.denoiser.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert kernels and all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    assert {p.dtype for p in model.encoders.parameters()} == {torch.float32}
    assert all(p.is_contiguous() for p in model.encoders.parameters())
    torch.testing.assert_close(eps_of(model), plain, rtol=0, atol=0.05)


def test_the_layout_alone_changes_no_number_and_can_be_taken_back(model: MIDMs) -> None:
    plain = eps_of(model)
    set_dtype_and_memory_format(model, torch.float32, channels_last=True)
    torch.testing.assert_close(eps_of(model), plain, rtol=0, atol=1e-5)
    set_dtype_and_memory_format(model, torch.float32, channels_last=False)
    assert all(p.is_contiguous() for p in model.denoiser.parameters())


def test_networks_to_be_loaded_draw_no_weights_and_no_random_numbers() -> None:
    torch.manual_seed(3)
    with weights_to_come():
        layer = torch.nn.Linear(4, 4)
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1)), "the generator was not read"
    layer.load_state_dict({"weight": torch.eye(4), "bias": torch.zeros(4)})
    assert torch.equal(layer(torch.arange(4.0)), torch.arange(4.0))
    torch.manual_seed(3)
    assert torch.nn.Linear(4, 4).weight.std() > 0.1, "outside the block layers are drawn again"
