"""`fast()` keeps the picture."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import default_collate

from midms.data.procedural.dataset import test_pairs as fixed_pairs
from midms.metrics.truth import psnr
from midms.pipelines.midms import MIDMsPipeline


def test_on_the_shipped_weights_fast_is_within_40_db_of_plain(tmp_path):
    pipe = MIDMsPipeline.from_pretrained("demo-64")
    dataset = fixed_pairs("faces", 64, 4)
    batch = default_collate([dataset[index] for index in range(4)])
    plain = pipe(batch["condition"], batch["exemplar"], output_type="pt").images
    assert pipe.fast() is pipe
    fast = pipe(batch["condition"], batch["exemplar"], output_type="pt").images
    assert psnr(fast, plain).min() > 40
    weight = pipe.model.denoiser.unet.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    again = MIDMsPipeline.from_pretrained(pipe.save_pretrained(tmp_path / "saved"))
    assert torch.equal(again.model.denoiser.unet.conv_in.weight, weight)
    assert psnr(again(batch["condition"], batch["exemplar"], output_type="pt").images, plain).min() > 40


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo", "demo-64", "demo-figures", "demo-churches"])
def test_pictures_of_all_shipped_weights_in_other_forms_of_the_computation(name, capsys):
    """`fast()` stays within 40 dB of plain float32; bfloat16 is shown. docs/benchmarks/sampling.md has the table."""
    pipe = MIDMsPipeline.from_pretrained(name)
    dataset = fixed_pairs(pipe.info["task"], pipe.info["size"], 8)
    batch = default_collate([dataset[index] for index in range(8)])

    def pictures(pipeline: MIDMsPipeline) -> torch.Tensor:
        return pipeline(batch["condition"], batch["exemplar"], output_type="pt").images

    plain, half = pictures(pipe), pictures(MIDMsPipeline.from_pretrained(name, dtype=torch.bfloat16))
    fast, low, to_truth = psnr(pictures(pipe.fast()), plain), psnr(half, plain), psnr(half, batch["truth"])
    gain = (to_truth - psnr(plain, batch["truth"])).mean()
    with capsys.disabled():
        print(f"\n{name}: fast() {fast.min():.1f} dB, bfloat16 {low.min():.1f} to {low.max():.1f} dB, "
              f"to the truth {gain:+.3f} dB")  # fmt: skip
    assert fast.min() > 40
