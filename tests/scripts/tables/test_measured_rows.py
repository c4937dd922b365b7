"""Numbers of a row: means with their errors, averages over seeds, differences pair by pair, and the notes below."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from midms.config import ConfigError
from midms.evaluation.folders import ImageFolder
from midms.metrics.truth import feature_distance
from midms.models.translation_gan import GANSettings
from tables import measure
from tables.encoder_metrics import COLOUR, SEMANTIC, TEXTURE, EncoderMetrics
from tables.measure import Job, MeasuredRow, Session, check_task
from tables.published import GAN, ITERATED_GAN
from tables.rows import plans


def row(**numbers: list[float]) -> MeasuredRow:
    measured = MeasuredRow()
    for name, values in numbers.items():
        measured.add(name, np.array(values))
    return measured


def pictures(folder: Path, images: np.ndarray) -> Path:
    """uint8 (N, H, W, 3) as PNG files named 0, 1, ..."""
    folder.mkdir(parents=True)
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{k}.png")
    return folder


def noise(seed: int, count: int = 4, size: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_a_number_per_pair_gives_a_mean_and_its_standard_error() -> None:
    cell = row(psnr=[1.0, 2.0, 3.0, 6.0]).values["psnr"]
    assert cell.mean == 3.0 and cell.error == pytest.approx(np.sqrt(14 / 3) / 2)
    alone = row(psnr=[5.0]).values["psnr"]
    assert alone.mean == 5.0 and np.isnan(alone.error), "one pair says nothing about the spread"


def test_seeds_are_averaged_and_their_spread_is_the_error() -> None:
    runs = [row(psnr=values) for values in ([1.0, 3.0], [2.0, 4.0], [6.0, 8.0])]
    mean = measure._average(runs)
    assert mean.values["psnr"].mean == pytest.approx(4.0)
    assert mean.values["psnr"].error == pytest.approx(np.std([2, 3, 7], ddof=1) / np.sqrt(3))
    np.testing.assert_allclose(mean.per_pair["psnr"], [3.0, 5.0])
    assert measure._average(runs[:1]) is runs[0], "one run keeps the errors over its pairs"


def test_differences_are_paired_so_that_what_pairs_share_cancels() -> None:
    hard = np.array([10.0, 20.0, 40.0, 80.0])  # the pairs differ far more than the methods
    first, other = row(psnr=list(hard + 1), ssim=[1.0] * 4), row(psnr=list(hard), ssim=[0.5] * 4)
    cells = measure._differences(first, other)
    assert set(cells) == {"psnr"}, "SSIM has no column of differences"
    assert cells["psnr"].mean == pytest.approx(1.0) and cells["psnr"].error < 1e-9
    reverse = measure._differences(other, first)["psnr"]
    assert reverse.mean == -cells["psnr"].mean


def test_numbers_of_pairs_that_share_outputs_have_no_paired_error() -> None:
    first = row(psnr=[1.0, 2.0], diversity_encoder=[1.0, 2.0, 3.0], colour_fixed=[0.5, 0.7])
    assert set(measure._differences(first, row(psnr=[1.0, 1.0], diversity_encoder=[1.0]))) == {"psnr"}


def test_differences_come_in_the_order_of_the_measurement() -> None:
    """A set of names has another order in every run, and the record of a table would change with it."""
    names = [f"metric_{k}" for k in range(20)]
    rows = [row(**{name: [1.0, 2.0] for name in names}) for _ in range(2)]
    assert list(measure._differences(*rows)) == names


def test_sharpness_and_swd_of_folders_are_zero_and_one_at_the_truth(tmp_path: Path) -> None:
    truth = pictures(tmp_path / "truth", noise(0))
    same, other = pictures(tmp_path / "same", noise(0)), pictures(tmp_path / "other", noise(0) // 2)
    np.testing.assert_allclose(measure._sharpness(same, truth), 1.0)
    np.testing.assert_allclose(measure._sharpness(other, truth), 0.25, rtol=0.02)  # half the contrast
    gap = measure._swd_to_truth(same, other, truth)
    assert gap.mean == pytest.approx(-gap.swd_b.average) and gap.swd_b.average > 0


class Patches(torch.nn.Module):
    """Three layers: the picture, its 4x4 means, its 8x8 means."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        pool = torch.nn.functional.avg_pool2d
        return {COLOUR: images + 2, TEXTURE: pool(images, 4) + 2, SEMANTIC: pool(images, 8) + 2}


def test_encoder_metrics_pair_by_name_and_reuse_what_they_stored(tmp_path: Path) -> None:
    calls: list[int] = []
    network = Patches()
    network.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    encoder = EncoderMetrics(network, "key", tmp_path / "cache", batch_size=2)
    images = noise(1)
    first = ImageFolder(pictures(tmp_path / "first", images))
    second = ImageFolder(pictures(tmp_path / "second", images[[1, 0, 2, 3]]))
    swapped = encoder.distance(first, second, "truth")
    assert (swapped[:2] > 1e-3).all() and np.abs(swapped[2:]).max() < 1e-9
    assert encoder.frechet(first, second) == pytest.approx(0, abs=1e-9), "a set has no order"
    cosines = encoder.cosines(first, second, "truth")
    assert list(cosines) == [COLOUR, TEXTURE, SEMANTIC]
    assert all((values[2:] > 1 - 1e-9).all() and (values[:2] < 1).all() for values in cosines.values())
    made = len(calls)
    again = EncoderMetrics(network, "key", tmp_path / "cache", batch_size=3)
    np.testing.assert_array_equal(again.distance(first, second, "truth"), swapped)
    assert len(calls) == made, "another batch size reads the stored rows"
    EncoderMetrics(network, "other key", tmp_path / "cache").distance(first, second, "truth")
    assert len(calls) > made, "other weights do not"


def test_diversity_is_between_outputs_of_one_condition(tmp_path: Path) -> None:
    images = noise(2, count=3)
    (tmp_path / "crossed").mkdir()
    for name, image in zip(("a__0", "a__1", "b__0"), images, strict=True):
        Image.fromarray(image).save(tmp_path / "crossed" / f"{name}.png")
    encoder = EncoderMetrics(Patches(), "key", tmp_path / "cache")
    folder = ImageFolder(tmp_path / "crossed")
    (value,) = encoder.diversity(folder)
    maps = [encoder.maps(folder[k][None]) for k in (0, 1)]
    assert value == pytest.approx(feature_distance(*maps).item(), rel=1e-5)


def test_notes_give_the_reasons_and_what_the_errors_are_over(tmp_path: Path) -> None:
    def notes(seeds: int, keys: set[str]) -> list[str]:
        dataset = TensorDataset(torch.zeros(4))
        session = Session(Job(dataset, "faces", 4, False, "", tmp_path, seeds))
        session.skipped["fid"] = "no file x.pth"
        return measure._notes(session, keys)

    assert notes(1, set()) == [
        "4 pairs of faces; errors are standard errors over pairs (sets as a whole have none with one seed)",
        "fid was not measured: no file x.pth",
    ]
    assert notes(3, set())[0].endswith("standard errors over 3 seeds")
    assert any("not the published metric" in note for note in notes(1, {"fd_reference"}))
    assert any("distance-L" in note for note in notes(1, {"fixed_distance"}))


def test_weights_of_another_task_are_refused() -> None:
    check_task({"task": "faces"}, "faces", "w")
    check_task({}, "faces", "w")
    with pytest.raises(ConfigError, match=r"weights 'w' are of task 'figures', not 'faces'; give those of faces"):
        check_task({"task": "figures"}, "faces", "w")


@pytest.mark.parametrize("table", ["3", "4", "5", "7", "rewarp", "bands", "regions"])
def test_a_gan_has_no_rows_where_a_diffusion_is_varied(table: str) -> None:
    with pytest.raises(ConfigError, match=rf"--table {table}: varies a diffusion, .* take 1, 2, 8 or 9"):
        plans(table, GANSettings(), False)


@pytest.mark.parametrize("table", ["1", "2", "8", "9"])
def test_a_gan_is_compared_with_itself_once_more(table: str) -> None:
    settings = GANSettings()
    rows = [planned.plan for planned in plans(table, settings, False)]
    assert [plan.name for plan in rows[:2]] == [GAN, ITERATED_GAN]
    calls = [plan.settings.num_interleaved_steps for plan in rows]
    assert calls[1] == settings.num_interleaved_steps + 1 and set(calls[2:]) == {settings.num_interleaved_steps}
