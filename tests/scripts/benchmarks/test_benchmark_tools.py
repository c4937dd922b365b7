"""Options, counted work, pictures and random networks of the benchmarks."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks import flops, networks, plots
from benchmarks.options import add_plot, add_shape, check_shape
from midms.models.encoders import CorrespondenceEncoders


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 64), "--batch: got 0, expected 1 or more"),
        ((1, -2, 64), "--rounds: got -2, expected 1 or more"),
        ((1, 1, 48), "--size: got 48, expected a multiple of 32"),
        ((1, 1, 0), "--size: got 0, expected a multiple of 32"),
    ],
)
def test_shapes_that_no_network_takes_are_refused(arguments: tuple[int, int, int], message: str) -> None:
    check_shape(1, 1, 64)
    with pytest.raises(ValueError, match=message):
        check_shape(*arguments)


def test_shared_options_have_one_meaning(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_shape(parser, "demo", "64", "how often")
    add_plot(parser, "bars")
    defaults = parser.parse_args([])
    assert (defaults.reference, defaults.config, defaults.size, defaults.batch, defaults.rounds) == (
        False, None, None, 1, 1,
    )  # fmt: skip
    given = parser.parse_args(["--reference", "--config", "tiny", "--batch", "2", "--plot", str(tmp_path / "a.png")])
    assert given.reference and given.config == "tiny" and given.batch == 2 and given.plot == tmp_path / "a.png"


def test_flop_of_products_and_convolutions_are_counted_exactly() -> None:
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    assert flops.count_flop(lambda: a @ b) == 2 * 3 * 5 * 7
    layer = torch.nn.Conv2d(4, 6, 3, padding=1, bias=False)
    assert flops.count_flop(lambda: layer(torch.ones(2, 4, 8, 8))) == 2 * 2 * 8 * 8 * 4 * 6 * 9
    assert flops.count_flop(lambda: a + a) == 0


def test_counted_work_grows_as_the_networks_do() -> None:
    """Twice the side is four times the convolutions, and sixteen times the pairs of the matching."""
    small, large = flops.sampling_flop("tiny", 64), flops.sampling_flop("tiny", 128)
    assert set(small) == {"unet", "decode", "encode", "encoders", "matching"}
    assert large["matching"] == 16 * small["matching"] == 16 * 3 * 2 * 16**4 * 16
    for part in ("decode", "encode", "encoders"):
        assert 3.9 < large[part] / small[part] < 6  # attention in the first stage's middle grows faster
    assert 4 <= large["unet"] / small["unet"] < 16


def test_the_product_rate_is_work_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([50.0, 20.0, 40.0])
    monkeypatch.setattr(flops, "time_once", lambda run, device: next(times))
    monkeypatch.setattr(flops, "ceiling", lambda device, dtype: lambda: None)
    assert flops.product_rate("cpu", torch.float32, repeats=3) == pytest.approx(2 * 2048**3 / 0.020)


def test_random_networks_are_fixed_by_their_seed() -> None:
    one, same, other = (networks.random_model("tiny", seed=seed) for seed in (0, 0, 1))
    weights = [dict(model.named_parameters()) for model in (one, same, other)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert any(not torch.equal(value, weights[2][name]) for name, value in weights[0].items())
    assert not one.training
    with pytest.raises(ValueError, match="--config: got 'huge', expected one of celebahq, churches, demo, tiny"):
        networks.random_model("huge")


def test_random_pairs_fit_the_model_and_their_ranges() -> None:
    model = networks.random_model("tiny")
    pairs = networks.random_pairs(model, 64, 3)
    assert pairs.condition.shape == pairs.exemplar_condition.shape == (3, 15, 64, 64)
    assert pairs.exemplar.shape == pairs.source.shape == (3, 3, 64, 64)
    assert pairs.condition.min() >= 0 and pairs.condition.max() <= 1
    assert -1 <= pairs.exemplar.min() < -0.9 and 0.9 < pairs.exemplar.max() <= 1
    assert torch.equal(pairs.source, networks.random_pairs(model, 64, 3).source)
    assert not torch.equal(pairs.source, networks.random_pairs(model, 64, 3, seed=1).source)


def test_published_sizes_are_those_of_the_released_models() -> None:
    """U-Nets of 274 and 295 million parameters; the encoders' widths are the constructor's own."""
    from midms.models.denoiser import Denoiser

    counts = {}
    with torch.device("meta"):
        for name in ("celebahq", "churches"):
            denoiser = Denoiser(networks.SIZES[name]["denoiser"])
            counts[name] = sum(parameter.numel() for parameter in denoiser.parameters())
            CorrespondenceEncoders(**networks.SIZES[name]["encoders"])
    assert counts == {"celebahq": 274_056_163, "churches": 294_966_916}


def test_bars_are_drawn_from_left_to_right(tmp_path: Path) -> None:
    plots.stacked_bars(tmp_path / "bars.png", {"ours": {"unet": 2.0, "decode": 1.0}, "released": {"unet": 6.0}}, "ms",
                       ("floor", 1.5))  # fmt: skip
    with Image.open(tmp_path / "bars.png") as picture:
        pixels = picture.convert("RGB")
    assert pixels.width == 750
    colours = {colour for _, colour in pixels.getcolors(2**20)}
    assert {(31, 119, 180), (255, 127, 14)} <= colours, "one colour a part"


def test_curves_have_a_panel_each_and_no_figure_stays_open(tmp_path: Path) -> None:
    from matplotlib import pyplot

    points = {"a": [20.0, 0.5], "b": [21.0, 0.4]}
    plots.curves(tmp_path / "curves.png", points, {"a": 4.0, "b": 16.0}, ("calls", ["PSNR", "distance"]))
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width == 840
    assert pyplot.get_fignums() == []
    with pytest.raises(RuntimeError, match="broken"), plots.figure(tmp_path / "broken.png"):
        raise RuntimeError("broken")
    assert pyplot.get_fignums() == [] and not (tmp_path / "broken.png").exists()
