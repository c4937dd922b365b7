"""The benchmark's own arithmetic: bounds that must hold whatever the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from midms.data.procedural.dataset import test_pairs as fixed_test_pairs
from midms.evaluation import benchmark
from midms.pipelines.midms import MIDMsPipeline


@pytest.fixture(scope="module")
def setting(tiny_pipeline_folder):
    pipe = MIDMsPipeline.from_pretrained(tiny_pipeline_folder)
    return pipe, list(benchmark.encoded_pairs(pipe.model, fixed_test_pairs(size=32, length=4), batch_size=2))


def test_every_method_gives_images_and_bounds_are_ordered(setting):
    pipe, pairs = setting
    scores = {
        name: benchmark.score(pipe.model, pairs, method, pipe.settings) for name, method in benchmark.METHODS.items()
    }
    assert all(s.images.shape == (4, 3, 32, 32) and np.isfinite(s.psnr).all() for s in scores.values())
    assert scores["mean part colours"].psnr.mean() > scores["other style"].psnr.mean()
    oracle = torch.cat([benchmark.true_image_warp(pair) for pair in pairs])
    truth = torch.cat([pair.batch["truth"] for pair in pairs])
    assert benchmark.psnr(oracle, truth).mean() > scores["mean part colours"].psnr.mean()
    truth = torch.cat([pair.batch["truth"] for pair in pairs])
    difference, first, second = benchmark.compare(scores["full method"], scores["full method"], truth)
    assert difference.psnr == (0.0, 0.0) and first == second


def test_results_do_not_depend_on_the_batch(setting):
    pipe, pairs = setting
    single = list(benchmark.encoded_pairs(pipe.model, fixed_test_pairs(size=32, length=4), batch_size=1))
    one, two = (benchmark.score(pipe.model, p, benchmark.full_method, pipe.settings).images for p in (pairs, single))
    assert (one - two).abs().max() < 1e-4


def test_switched_off_parts_change_what_they_should(setting):
    pipe, pairs = setting
    warp = benchmark.first_warp(pipe.model, pairs[0], pipe.settings)
    none = pipe.settings.replace(num_interleaved_steps=0, refine_steps=0)
    assert torch.equal(benchmark.full_method(pipe.model, pairs[0], none), warp)
    assert torch.equal(benchmark.no_diffusion(pipe.model, pairs[0], pipe.settings.replace(rewarp="none")), warp)


def test_true_matches_score_perfectly():
    """The truth at the latent's positions, given as the answer, has PCK 1 and error 0."""
    batch = torch.utils.data.default_collate([fixed_test_pairs(size=64, length=2)[i] for i in range(2)])
    truth, valid = benchmark.token_truth(batch["coordinates"], batch["visible"], (16, 16))
    assert truth.shape == (2, 2, 16, 16) and 0.2 < valid.float().mean() < 1
    assert (benchmark.pck(truth, truth, valid, size=(64, 64)) == 1).all()


def test_token_and_pixel_coordinates_agree():
    """A token's centre in latent coordinates is its centre in image coordinates."""
    axis = torch.linspace(-1, 1, 4)
    tokens = torch.stack(torch.meshgrid(axis, axis, indexing="xy"))[None]
    pixels = torch.linspace(-1, 1, 16).reshape(4, 4).mean(dim=1)
    image = benchmark.to_image_coordinates(tokens, 4)
    torch.testing.assert_close(image[0, 0, 0], pixels)
    torch.testing.assert_close(image[0, 1, :, 0], pixels)
    torch.testing.assert_close(benchmark.to_latent_coordinates(image, 4), tokens)


def test_the_true_warp_undoes_a_known_shift(setting):
    """An exemplar whose every token moved by two positions: warping its latent gives the latent back."""
    pipe, pairs = setting
    pair, factor = pairs[0], pipe.model.first_stage.factor
    shifted = pair.exemplar.latent.roll(2, dims=3)
    side = pair.batch["truth"].shape[-1]
    axis = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    coordinates = torch.stack([x + 2 * factor * 2 / (side - 1), y]).expand(len(shifted), -1, -1, -1)
    visible = torch.zeros(len(shifted), side, side, dtype=torch.bool)
    visible[..., : side - 2 * factor] = True
    moved = pair._replace(
        exemplar=pair.exemplar._replace(latent=shifted),
        batch={**pair.batch, "coordinates": coordinates, "visible": visible},
    )
    seen = []
    decode = pipe.model.decode
    pipe.model.decode = lambda latent, *arguments: seen.append(latent) or decode(latent, *arguments)
    try:
        benchmark.true_latent_warp(pipe.model, moved, pipe.settings)
    finally:
        del pipe.model.decode
    torch.testing.assert_close(seen[0][..., :-2], pair.exemplar.latent[..., :-2], atol=1e-4, rtol=1e-4)


def test_the_matching_is_scored_on_the_subject_the_foreground_and_everywhere(setting):
    """Copying in place is right on the left half, the subject, and wrong elsewhere; the lower half is foreground."""
    pipe, pairs = setting
    pair, side = pairs[0], pairs[0].batch["truth"].shape[-1]
    axis = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    left, lower = (x < 0).expand(len(pair.batch["truth"]), -1, -1), (y > 0).expand(len(pair.batch["truth"]), -1, -1)
    coordinates = torch.stack([torch.where(x < 0, x, x - 1), y]).expand(len(left), -1, -1, -1)
    known = {"coordinates": coordinates, "visible": torch.ones_like(left), "subject": left, "labels": lower.long()}
    scores = benchmark.score_matching(pipe.model, [pair._replace(batch=pair.batch | known)], "identity")
    for share, expected in ((scores.pck, 1), (scores.pck_everywhere, 0.5), (scores.pck_foreground, 0.5)):
        np.testing.assert_allclose(share, expected)
    np.testing.assert_allclose(scores.error, 0, atol=1e-4)
    elsewhere = pair._replace(batch=pair.batch | known | {"subject": ~left, "labels": left.long()})
    scores = benchmark.score_matching(pipe.model, [elsewhere], "identity")
    np.testing.assert_allclose(scores.pck, 0)
    np.testing.assert_allclose(scores.pck_foreground, 1)


def test_means_leave_out_the_pairs_without_a_score():
    one, none = np.array([np.nan, 0.5, 0.25]), np.array([np.nan])
    means = benchmark.MatchingScores(one, none, one, one, one).means()
    assert means["pck"] == means["same_part"] == 0.375 and np.isnan(means["error"])


def test_same_part_accuracy_on_a_known_answer():
    """Left half part 1, right half part 2, the exemplar mirrored: staying in place is wrong, mirroring is right."""
    labels = torch.ones(1, 8, 8, dtype=torch.long)
    labels[..., 4:] = 2
    batch = {"labels": labels, "exemplar_labels": labels.flip(-1)}
    axis = benchmark.to_image_coordinates(benchmark.coordinate_grid(4, 4)[None], 2)
    mirrored = axis * torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1)
    assert benchmark.same_part_accuracy(axis, batch) == 0 and benchmark.same_part_accuracy(mirrored, batch) == 1
    batch["exemplar_labels"] = torch.ones_like(labels)  # part 2 is missing, so only part 1 counts
    assert benchmark.same_part_accuracy(axis, batch) == 1
    batch["exemplar_labels"] = torch.full_like(labels, 7)
    assert torch.isnan(benchmark.same_part_accuracy(axis, batch)).all()
