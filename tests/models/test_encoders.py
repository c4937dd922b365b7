"""Shapes, sizes and the two forms of the correspondence encoders (numbers of the release: tests/parity)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from midms.matching.correspondence import match
from midms.models.encoders import ConditionedEncoder, CorrespondenceEncoders, MatchingHead

SMALL = {"widths": (8, 12), "out_channels": 10, "hidden": 6}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("labels", "channels", "expected"),
    [(15, 3, (6240704, 6192320, 7066688, 5289924)), (151, 4, (6789056, 6196352, 7067264, 11929988))],
)
def test_released_sizes(labels: int, channels: int, expected: tuple[int, ...]) -> None:
    with torch.device("meta"):
        encoders = CorrespondenceEncoders(channels, labels)
    sizes = [count(getattr(encoders, name)) for name in ("seg_enc", "real_enc", "iter_enc", "layer")]
    assert tuple(sizes) == expected


def test_one_prelu_parameter_per_residual_block() -> None:
    head = MatchingHead(8, 4)
    assert sum("prelu" in name for name, _ in head.named_parameters()) == 4


@pytest.mark.parametrize("height_width", [(6, 6), (5, 9)])
def test_features_keep_the_size(height_width: tuple[int, int]) -> None:
    encoder = ConditionedEncoder(3, 5, **SMALL)
    assert encoder(draw(2, 3, *height_width), draw(2, 5, 12, 18)).shape == (2, 10, *height_width)


@pytest.mark.parametrize("batch", [1, 2])
def test_gradients_do_not_depend_on_the_layout_of_what_comes_back(batch: int) -> None:
    encoder = ConditionedEncoder(3, 5, **SMALL).eval()
    x = draw(batch, 3, 6, 8).requires_grad_()
    features, back = encoder(x, draw(batch, 5, 6, 8)), draw(batch, 10, 6, 8)
    plain, swapped = (
        torch.autograd.grad(features, x, back.contiguous(memory_format=layout), retain_graph=True)[0]
        for layout in (torch.contiguous_format, torch.channels_last)
    )
    torch.testing.assert_close(swapped, plain)


def test_released_form_matches_iterates_with_the_raw_exemplar_features() -> None:
    encoders = CorrespondenceEncoders(3, 5, **SMALL).eval()
    latent, grid = draw(2, 3, 6, 8), encoders.condition_grid(draw(2, 5, 24, 32), (6, 8))
    condition, exemplar = encoders.encode_condition(grid), encoders.encode_exemplar(latent, grid)
    torch.testing.assert_close(exemplar.key, encoders.real_enc(latent, latent))
    joint = torch.cat([exemplar.key, grid], dim=1)
    torch.testing.assert_close(exemplar.features, encoders.phi(encoders.layer(joint)))
    torch.testing.assert_close(encoders.encode_iterate(latent, condition), encoders.iter_enc(latent, condition.raw))


@pytest.mark.parametrize(
    ("condition_input", "shape"), [("nearest", (24, 32)), ("unshuffle", (24, 32)), ("latent", (6, 8))]
)
def test_paper_form_needs_no_label_map(condition_input: str, shape: tuple[int, int]) -> None:
    encoders = CorrespondenceEncoders(3, 3, **SMALL, form="paper", condition_input=condition_input).eval()
    latent = draw(2, 3, 6, 8)
    condition = encoders.encode_condition(encoders.condition_grid(draw(2, 3, *shape), (6, 8)))
    features, key = encoders.encode_exemplar(latent)
    assert condition.features.shape == features.shape == (2, 10, 6, 8)
    assert key is features
    want = encoders.project_exemplar(encoders.iter_enc(latent, condition.grid))
    torch.testing.assert_close(encoders.encode_iterate(latent, condition), want)


def test_a_line_of_one_pixel_survives_unshuffling_but_not_nearest_resizing() -> None:
    line = torch.zeros(1, 1, 16, 16)
    line[..., 5] = 1
    kept = CorrespondenceEncoders(3, 1, **SMALL, form="paper", condition_input="unshuffle")
    lost = CorrespondenceEncoders(3, 1, **SMALL, form="paper", condition_input="nearest")
    assert kept.condition_grid(line, (4, 4)).sum() == line.sum()
    assert lost.condition_grid(line, (4, 4)).sum() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"form": "text"}, "form 'text' is unknown"),
        ({"form": "paper", "condition_input": "bilinear"}, "condition_input 'bilinear' is unknown"),
        ({"condition_input": "unshuffle"}, "condition_input must be 'nearest'"),
    ],
)
def test_wrong_settings(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CorrespondenceEncoders(3, 5, **SMALL, **arguments)


def test_wrong_inputs() -> None:
    released = CorrespondenceEncoders(3, 5, **SMALL)
    paper = CorrespondenceEncoders(3, 5, **SMALL, form="paper", condition_input="unshuffle")
    with pytest.raises(ValueError, match="needs the exemplar's label map"):
        released.encode_exemplar(draw(1, 3, 6, 6))
    with pytest.raises(ValueError, match="takes no label map"):
        paper.encode_exemplar(draw(1, 3, 6, 6), draw(1, 5, 6, 6))
    with pytest.raises(ValueError, match=r"size \(20, 24\), expected \(24, 24\)"):
        paper.condition_grid(draw(1, 5, 20, 24), (6, 6))
    with pytest.raises(ValueError, match="4 channels, expected 5"):
        released.encode_condition(draw(1, 4, 6, 6))


@pytest.mark.parametrize("form", ["released", "paper"])
def test_autocast_changes_neither_features_nor_matches(form: str) -> None:
    """Trainings in bf16-mixed match in float32: features, warps and gradients equal those without, bit for bit."""
    torch.manual_seed(0)
    encoders = CorrespondenceEncoders(3, 5, **SMALL, form=form, condition_input="nearest").eval()
    grid, latent, prediction = draw(2, 5, 6, 6), draw(2, 3, 6, 6), draw(2, 3, 6, 6) + 0.1
    labels = grid if form == "released" else None

    def run(dtype: torch.dtype | None) -> list[Tensor]:
        encoders.zero_grad()
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            condition = encoders.encode_condition(grid)
            exemplar = encoders.encode_exemplar(latent, labels)
            iterate = encoders.encode_iterate(prediction, condition)
            warps = [match(query, key, latent, temperature=0.05).warp
                     for query, key in ((condition.features, exemplar.features), (iterate, exemplar.key))]  # fmt: skip
        sum(warp.square().sum() for warp in warps).backward()
        gradients = [weight.grad for weight in encoders.parameters() if weight.grad is not None]
        return [*condition, *exemplar, iterate, *warps, *gradients]

    plain, mixed = run(None), run(torch.bfloat16)
    assert len(plain) == len(mixed) and all(value.dtype == torch.float32 for value in mixed)
    assert all(torch.equal(one, other) for one, other in zip(plain, mixed, strict=True))
