"""`fast()` keeps the picture."""

from __future__ import annotations

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
