"""The streaming backend: equal to the dense one, gradients included, linear in memory, exact where it underflows."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.matching_blocks import build, make_inputs
from benchmarks.timing import peak_mb
from midms.matching import streaming
from midms.matching.confidence import cycle_consistency_mask
from midms.matching.correspondence import Match, match

CASES = ("one", "masked", "several")


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five query rows at a time, so that small grids are cut into several tiles with a shorter last one."""
    monkeypatch.setattr(streaming, "CPU_TILE", 1)
    monkeypatch.setattr(streaming, "MIN_ROWS", 5)


def tensors(case: str, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Callable[..., Match]]:
    """Leaves, and a function from leaves to their match with everything asked for."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 8, 5, 6), (2, 8, 4, 7), (2, 3, 4, 7)] + ([(2, 8, 3, 3), (2, 3, 3, 3)] if case == "several" else [])
    leaves = [
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes
    ]
    mask = None if case == "one" else torch.rand(2, 4, 7, generator=generator) > 0.4

    def run(leaves: list[Tensor], **options: Any) -> Match:
        query, key, values, *second = leaves
        options = {"cycle": True, "backward": True, "cycle_channels": 2} | options
        if second:
            return match(query, [key, second[0]], [values, second[1]], key_mask=[mask, None], **options)
        return match(query, key, values, key_mask=mask, **options)

    return leaves, run


def flat(matched: Match) -> list[Tensor]:
    """What depends on the inputs: a single exemplar's share is 1."""
    shares = [matched.share] if len(matched.forward_maps) > 1 else []
    return [matched.warp, *shares, *matched.forward_maps, *matched.backward_maps, *matched.cycles]


def values_and_gradients(run: Callable[..., Match], leaves: list[Tensor], **options: Any) -> list[Tensor]:
    outputs = flat(run(leaves, **options))
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(out.shape, generator=generator, dtype=torch.float64) for out in outputs]
    loss = torch.stack([(out * weight).sum() for out, weight in zip(outputs, weights, strict=True)]).sum()
    return outputs + list(torch.autograd.grad(loss, leaves))


def largest_error(got: list[Tensor], want: list[Tensor]) -> float:
    """Largest error of any tensor, relative to its largest entry or 1."""
    return max(
        float(((a - b).abs().max() / b.abs().max().clamp_min(1.0)).detach()) for a, b in zip(got, want, strict=True)
    )


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("temperature", [0.5, 0.005, 0.001])
def test_float64_equals_dense_with_gradients(case: str, temperature: float) -> None:
    leaves, run = tensors(case)
    dense = values_and_gradients(run, leaves, temperature=temperature, backend="dense")
    streamed = values_and_gradients(run, leaves, temperature=temperature, backend="streaming")
    assert largest_error(streamed, dense) < 1e-10


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("narrow", [False, True])
def test_a_batch_at_once_as_on_other_devices(case: str, narrow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_samples_at_once", lambda query: [slice(0, len(query))])
    if narrow:
        monkeypatch.setattr(streaming._Range, "of", classmethod(lambda cls, dtype: cls(-100.0, 20.0, 45.0)))
    leaves, run = tensors(case)
    dense = values_and_gradients(run, leaves, temperature=0.005, backend="dense")
    streamed = values_and_gradients(run, leaves, temperature=0.005, backend="streaming")
    assert largest_error(streamed, dense) < 1e-10


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("options", [{}, {"cycle": False, "backward": False}, {"cycle": False}, {"backward": False}])
def test_any_set_of_outputs_equals_dense(options: dict[str, bool]) -> None:
    leaves, run = tensors("one")
    dense = values_and_gradients(run, leaves, temperature=0.1, backend="dense", **options)
    streamed = values_and_gradients(run, leaves, temperature=0.1, backend="streaming", **options)
    assert largest_error(streamed, dense) < 1e-12


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("case", CASES)
def test_gradcheck(case: str) -> None:
    leaves, run = tensors(case)
    torch.autograd.gradcheck(
        lambda *tensors: flat(run(list(tensors), temperature=0.1, backend="streaming")), leaves, fast_mode=True
    )


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("case", CASES)
def test_columns_out_of_range_are_made_again(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a narrow exponent range most keys underflow in the shared exponential; the result must not show it."""
    monkeypatch.setattr(streaming._Range, "of", classmethod(lambda cls, dtype: cls(-100.0, 20.0, 45.0)))
    redone = []
    forward = streaming._forward

    def spy(*arguments: Any) -> streaming._Result:
        result = forward(*arguments)
        redone.append(len(result.redone))
        return result

    monkeypatch.setattr(streaming, "_forward", spy)
    leaves, run = tensors(case)
    dense = values_and_gradients(run, leaves, temperature=0.005, backend="dense")
    streamed = values_and_gradients(run, leaves, temperature=0.005, backend="streaming")
    assert sum(redone) >= 10
    assert largest_error(streamed, dense) < 1e-10


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("case", CASES)
def test_float32_is_as_good_as_float32_logits_allow(case: str) -> None:
    """Keys far from every query (cosines down to -1) included: at tau 0.001 float32 cannot hold their exponentials."""
    for temperature, bound in ((0.005, 1e-4), (0.001, 5e-4)):
        leaves, run = tensors(case)
        exact = values_and_gradients(run, leaves, temperature=temperature, backend="dense")
        single, run = tensors(case, torch.float32)
        streamed = values_and_gradients(run, single, temperature=temperature, backend="streaming")
        assert streamed[0].dtype == torch.float32
        assert largest_error(streamed, exact) < bound


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("scale", [2.0**-40, 2.0**16])
def test_small_and_large_upstream_gradients_keep_their_digits(scale: float) -> None:
    leaves, run = tensors("one", torch.float32)
    gradients = []
    for factor in (1.0, scale):
        outputs = run(leaves, temperature=0.005, backend="streaming")
        loss = torch.stack([(out * torch.arange(out.numel()).reshape(out.shape).cos()).sum() for out in flat(outputs)])
        gradients.append([grad / factor for grad in torch.autograd.grad(factor * loss.sum(), leaves)])
    assert largest_error(gradients[1], gradients[0]) < 1e-5


def test_float32_warp_and_mask_at_working_size() -> None:
    inputs = make_inputs(32, 1, "cpu", torch.float32)
    exact = [tensor.double() for tensor in inputs]
    matched = match(inputs.query, inputs.key, inputs.latent, backward=True, backend="streaming")
    want = match(exact[0], exact[1], exact[2], backward=True, backend="dense")
    assert float((matched.warp - want.warp).norm() / want.warp.norm()) < 1e-4
    masks = [cycle_consistency_mask(one.forward_maps[0], one.backward_maps[0], 0.3) for one in (matched, want)]
    assert float((masks[0] == masks[1]).float().mean()) >= 0.999


def test_a_sample_does_not_depend_on_its_batch() -> None:
    leaves, run = tensors("one", torch.float32)
    together = run(leaves, backend="streaming").warp
    query, key, values = (leaf[1:] for leaf in leaves)
    assert torch.equal(match(query, key, values, backend="streaming").warp, together[1:])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_float32_equals_float64_on_the_cpu() -> None:
    inputs = make_inputs(32, 4, "cpu", torch.float64)
    want = match(*inputs[:3], backward=True, backend="dense").warp
    torch.set_float32_matmul_precision("high")
    try:
        got = match(*(tensor.float().cuda() for tensor in inputs[:3]), backward=True, backend="streaming").warp
    finally:
        torch.set_float32_matmul_precision("highest")
    assert float((got.cpu() - want).norm() / want.norm()) < 1e-4


@pytest.mark.parametrize(("backward", "bound"), [(False, 100.0), (True, 100.0)])
def test_memory_at_64(backward: bool, bound: float) -> None:
    """One dense float32 matrix would be 64 MB; the dense form holds several."""
    assert peak_mb(build, "streaming", 64, 1, "cpu", torch.float32, backward, device="cpu") <= bound


@pytest.mark.slow
def test_memory_at_256() -> None:
    """65,536 tokens, forward: one dense matrix would be 16 GiB."""
    assert peak_mb(build, "streaming", 256, 1, "cpu", torch.float32, False, device="cpu") <= 1024.0
