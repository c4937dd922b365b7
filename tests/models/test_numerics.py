"""Precision and way of computing are chosen by the size of the U-Net and what the device can do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from midms.models import numerics
from midms.pipelines.midms import MIDMsPipeline

CPU = torch.device("cpu")


class Model:
    """As much of a MIDMs as the choice looks at."""

    def __init__(self, parameters: int, kind: str = "vq") -> None:
        self.denoiser = nn.Linear(parameters, 1, bias=False, device="meta")
        self.first_stage = type("Stage", (), {"kind": kind})()


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
