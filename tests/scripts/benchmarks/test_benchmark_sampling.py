"""The reference computes the release's work and our result; the floor is counted, not guessed."""

from __future__ import annotations

import argparse

import pytest
import torch

from benchmarks import sampling
from benchmarks.flops import sampling_flop
from benchmarks.networks import random_model, random_pairs
from benchmarks.released_sampling import plain_attention, released_translation
from midms.diffusion.settings import InterleaveSettings


def options(**changes: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    sampling.add_arguments(parser)
    small = {"device": "cpu", "threads": 1, "config": "tiny", "size": 32, "no_warm_up": True}
    return argparse.Namespace(**(vars(parser.parse_args([])) | small | changes))


@torch.no_grad()
def test_reference_and_lean_run_give_one_picture():
    model = random_model("tiny")
    pairs = random_pairs(model, 64, 1)
    settings = InterleaveSettings.released().replace(clamp_cosines=False)
    exemplar = model.encode_exemplar(pairs.exemplar, pairs.exemplar_condition)
    generators = [torch.Generator().manual_seed(5)]
    lean = model.translate(model.encode_condition(pairs.condition), [exemplar], settings, generators)
    plain_attention(model)
    reference = released_translation(model, pairs, [torch.Generator().manual_seed(5)])
    error = (model.decode(lean.latent) - reference).square().mean()
    assert -10 * torch.log10(error / 4) > 60  # dB; the matchings differ in their rounding and a factor 1 + 2e-5 of tau


def test_rows_say_what_was_called_and_how_far_the_floor_is(tmp_path):
    arguments = options(reference=True, modes=["lean", "cached", "fast"], plot=tmp_path / "parts.png")
    rows = {(row["name"], row["pass"]): row for row in sampling.run(arguments)}
    calls = {mode: [rows[mode, part]["calls"] for part in ("unet", "decode", "encode", "matching", "encoders")]
             for mode in ("reference", "lean", "cached", "fast")}  # fmt: skip
    assert calls["reference"] == [29, 7, 2, 6, 7] and calls["lean"] == calls["fast"] == [24, 1, 1, 3, 4]
    assert calls["cached"] == [24, 1, 0, 3, 3]
    work = {mode: tuple(rows[mode, "all"][name] for name in sampling.WORK) for mode in ("reference", "lean", "cached")}
    assert work == {"reference": (29, 2, 7), "lean": (24, 1, 1), "cached": (24, 0, 1)}
    assert rows["reference", "all"]["ratio"] == 1.0 and rows["lean", "all"]["median_ms"] > 0
    floor = rows["floor", "all"]
    assert floor["times_floor"]["lean"] == pytest.approx(rows["lean", "all"]["median_ms"] / floor["median_ms"], 0.05)
    assert (tmp_path / "parts.png").stat().st_size > 5000


def test_counted_work_grows_as_it_must():
    small, large = sampling_flop("tiny", 64), sampling_flop("tiny", 128)
    assert large["matching"] == 16 * small["matching"] == 3 * 2 * 32**4 * 16
    assert large["decode"] > 4 * small["decode"] > 0 and large["encoders"] == pytest.approx(4 * small["encoders"], 0.01)


@pytest.mark.slow
def test_counted_work_of_the_published_size():
    flop = sampling_flop("celebahq", 256)
    assert flop["unet"] / 24 == pytest.approx(202.4e9, 0.01)
    assert (flop["encode"], flop["decode"]) == (pytest.approx(345.2e9, 0.01), pytest.approx(670.6e9, 0.01))


@pytest.mark.parametrize(("changes", "message"), [({"size": 50}, "--size: got 50"), ({"rounds": 0}, "--rounds: got 0"),
                                                  ({"config": "huge"}, "--config: got 'huge'")])  # fmt: skip
def test_mistakes(changes, message):
    with pytest.raises(ValueError, match=message):
        list(sampling.run(options(**changes)))
