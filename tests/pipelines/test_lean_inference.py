"""Nothing is computed that the result does not need, and what was encoded once is not encoded again."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from midms.diffusion.settings import InterleaveSettings
from midms.models.encoded import join_conditions, join_exemplars
from midms.pipelines.midms import MIDMsPipeline

CLOSE = 1e-4  # float32 networks on batches of another size


@pytest.fixture
def calls(pipe):
    """How often each network was called since the test began."""
    counted: Counter[str] = Counter()
    stage, encoders = pipe.model.first_stage.model, pipe.model.encoders
    watched = {"unet": pipe.model.denoiser, "refiner": pipe.model.refiner, "encode": stage.encoder,
               "decode": stage.decoder, "condition": encoders.seg_enc,
               "exemplar": encoders.real_enc, "iterate": encoders.iter_enc}  # fmt: skip
    hooks = [
        module.register_forward_hook(lambda *_, name=name: counted.update([name])) for name, module in watched.items()
    ]
    yield counted
    for hook in hooks:
        hook.remove()


def test_one_translation_calls_each_network_as_often_as_it_must(pipe, inputs, calls):
    pipe(inputs[0][0], inputs[1][0], settings=InterleaveSettings.released())
    assert calls == {"unet": 24, "encode": 1, "decode": 1, "condition": 1, "exemplar": 1, "iterate": 2}
    calls.clear()
    pipe(inputs[0][0], inputs[1][0], settings=InterleaveSettings.paper().replace(refine_steps=5))
    assert (calls["unet"], calls["refiner"], calls["iterate"], calls["decode"]) == (50, 5, 48, 1)


def test_what_is_encoded_is_not_encoded_again(pipe, inputs, calls):
    conditions, exemplars = inputs
    condition, exemplar = pipe.encode_condition(conditions[0]), pipe.encode_exemplar(exemplars[0])
    calls.clear()
    ready = pipe(condition, exemplar, output_type="pt").images
    assert not {"encode", "condition", "exemplar"} & set(calls)
    assert torch.equal(ready, pipe(conditions[0], exemplars[0], output_type="pt").images)


def test_pictures_of_the_progress_are_decoded_on_request_only(pipe, inputs, calls):
    seen: list[torch.Tensor] = []
    pipe(inputs[0][0], inputs[1][0], callback=lambda step: seen.append(step.prediction))
    assert calls["decode"] == 1 and len(seen) == 4
    assert pipe.decode(seen[0], (32, 32)).shape == (1, 3, 32, 32) and calls["decode"] == 2
    pipe(inputs[0][0], inputs[1][0], return_intermediates=True)
    assert calls["decode"] == 2 + 1 + 1  # result; first warp and predictions together


def test_a_batch_of_different_pairs_equals_the_pairs(pipe, inputs):
    conditions, exemplars = (part[:4] for part in inputs)
    ready = [pipe.encode_exemplar(one) for one in exemplars]
    together = pipe(
        join_conditions([pipe.encode_condition(one) for one in conditions]), join_exemplars(ready), output_type="pt"
    ).images
    for i in range(4):
        alone = pipe(conditions[i], exemplars[i], seed=i, output_type="pt").images[0]
        assert (together[i] - alone).abs().max() < CLOSE


def test_one_condition_serves_many_exemplars(pipe, inputs):
    conditions, exemplars = inputs
    condition = pipe.encode_condition(conditions[0])
    many = pipe(condition, exemplars[:3], seed=[7, 7, 8], output_type="pt").images
    for i, seed in enumerate((7, 7, 8)):
        alone = pipe(conditions[0], exemplars[i], seed=seed, output_type="pt").images[0]
        assert (many[i] - alone).abs().max() < CLOSE


def test_joined_masks_stay_with_their_exemplar(pipe, inputs):
    conditions, exemplars = inputs
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1
    masked = pipe.encode_exemplar(exemplars[0], mask=mask)
    pair = pipe(conditions[:2], join_exemplars([masked, pipe.encode_exemplar(exemplars[1])]), output_type="pt").images
    assert (pair[0] - pipe(conditions[0], masked, output_type="pt").images[0]).abs().max() < CLOSE
    assert (pair[1] - pipe(conditions[1], exemplars[1], seed=1, output_type="pt").images[0]).abs().max() < CLOSE


def test_a_half_precision_pipeline_keeps_the_loop_in_float32(tiny_pipeline_folder, inputs):
    half = MIDMsPipeline.from_pretrained(tiny_pipeline_folder, dtype=torch.bfloat16)
    settings = InterleaveSettings(num_inference_steps=4, num_interleaved_steps=2, refine_steps=0)
    output = half(inputs[0][0, :, :8, :8], half.encode_exemplar(inputs[1][0]), settings=settings, output_type="pt")
    assert output.latents.dtype == torch.float32 and output.images.isfinite().all()
    assert next(half.model.encoders.parameters()).dtype == torch.float32


def test_joining_needs_equal_sizes(pipe, inputs):
    with pytest.raises(ValueError, match="at least one, all of one size, got sizes"):
        join_exemplars([])
    conditions = [pipe.encode_condition(inputs[0][0]), pipe.encode_condition(inputs[0][0, :, :16])]
    with pytest.raises(ValueError, match=r"\(32, 32\), \(16, 32\)"):
        join_conditions(conditions)
