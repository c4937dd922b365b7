"""Features of photos that need no weights, and who may be whose exemplar."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
import torch
from files_on_disk import photo, write_lines

from midms.data import pair_lists, parallel
from midms.data.procedural.__main__ import main as show_scenes
from midms.data.retrieval import colour_and_gradient_features, fewest_candidates, group_numbers, nearest
from midms.io.files import BrokenFileError

COLOURS, MEANS = slice(0, 64), slice(64, 64 + 48)


def picture(seed: int, side: int = 32) -> np.ndarray:
    """Smooth random colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return coarse.repeat(side // 4, 0).repeat(side // 4, 1)


@pytest.mark.parametrize("shape", [(32, 32), (20, 50), (64, 16), (4, 4)])
def test_features_have_one_length_and_three_parts_of_fixed_weight(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    features = colour_and_gradient_features(pixels)
    assert features.shape == (64 + 48 + 128,) and features.dtype == np.float32 and np.isfinite(features).all()
    norms = [np.linalg.norm(part) for part in (features[COLOURS], features[MEANS], features[MEANS.stop :])]
    assert norms == pytest.approx([1.0, 1.0, 0.5], abs=1e-5)


def test_a_mirrored_photo_has_the_same_colours_in_other_places():
    one, other = colour_and_gradient_features(picture(1)), colour_and_gradient_features(picture(1)[:, ::-1])
    np.testing.assert_allclose(one[COLOURS], other[COLOURS], atol=1e-6)
    assert np.abs(one[MEANS] - other[MEANS]).max() > 0.05


def test_a_plain_photo_has_one_colour_and_no_gradient():
    features = colour_and_gradient_features(np.full((16, 16, 3), 90, np.uint8))
    assert sorted(features[COLOURS].tolist())[-2:] == [0.0, 1.0] and not features[MEANS.stop :].any()


def test_an_enlarged_photo_is_the_nearest_of_its_own():
    small, large = (
        torch.from_numpy(np.stack([colour_and_gradient_features(picture(k, side)) for k in range(12)]))
        for side in (32, 128)
    )
    indices, cosines = nearest(large, small, 1)
    assert indices[:, 0].tolist() == list(range(12)) and cosines.min() > 0.9


@pytest.mark.parametrize("scale", [0.01, 1.0, 300.0])
def test_neighbours_depend_on_directions_alone_and_not_on_the_chunks(scale):
    numbers = torch.Generator().manual_seed(2)
    queries, keys = torch.randn(9, 6, generator=numbers), torch.randn(20, 6, generator=numbers)
    expected = nearest(queries, keys, 5)
    for chunk in (1, 4, 100):
        indices, cosines = nearest(scale * queries, keys / scale, 5, chunk=chunk)
        assert torch.equal(indices, expected[0])
        torch.testing.assert_close(cosines, expected[1], rtol=0, atol=1e-5)
    assert (expected[1].diff(dim=1) <= 0).all(), "best first"


def test_candidates_are_the_photos_of_others():
    own, keys = group_numbers(["ann", "bob"], ["ann", "ann", "bob", "cy"])
    assert fewest_candidates(own, keys) == 2, "ann has bob and cy"
    assert fewest_candidates(own[1:], keys) == 3
    features = torch.eye(4)
    indices, _ = nearest(features[:2], features, 2, own, keys)
    assert set(indices[0].tolist()) == {2, 3} and 2 not in indices[1].tolist()


def test_identities_are_the_photo_its_folder_or_what_a_file_says(tmp_path):
    names = ["ann/1.jpg", "ann/2.jpg", "bob/1.jpg"]
    assert len(set(pair_lists.identities(names, tmp_path, None))) == 3
    folders = pair_lists.identities(names, tmp_path, "folder")
    assert folders[0] == folders[1] != folders[2]
    file = tmp_path / "who.txt"
    write_lines(file, ["ann/1.jpg 7", "ann/2.jpg,8", "bob/1.jpg\t7"])
    assert pair_lists.identities(names, tmp_path, str(file)) == ["7", "8", "7"]
    write_lines(file, ["ann/1.jpg 7"])
    with pytest.raises(ValueError, match=r"2 of 3 photos have no identity, first 'ann/2\.jpg'"):
        pair_lists.identities(names, tmp_path, str(file))


def test_names_of_a_split_may_be_written_in_four_ways(tmp_path, capsys):
    for k in range(3):
        photo(tmp_path / "photos" / f"{k}.jpg", k, (8, 8))
    listed = tmp_path / "names.txt"
    run = parallel.ParallelRun(argparse.Namespace(workers=0, quiet=True), "features")
    for entry in ("1", "1.jpg", "photos/1", "photos/1.jpg"):
        write_lines(listed, [entry, entry])
        assert pair_lists.split_names(tmp_path / "photos", listed, run) == ["1.jpg"]
    write_lines(listed, ["2", "9"])
    assert pair_lists.split_names(tmp_path / "photos", listed, run) == ["2.jpg"] and run.broken == 1
    assert "9: named in" in "".join(capsys.readouterr())
    write_lines(listed, ["9"])
    with pytest.raises(ValueError, match=r"names\.txt: names no photo of"):
        pair_lists.split_names(tmp_path / "photos", listed, run)
    assert pair_lists.split_names(tmp_path / "photos", None, run) == ["0.jpg", "1.jpg", "2.jpg"]


def test_a_broken_file_is_a_result_that_is_told_and_counted(capsys, tmp_path):
    def half(name: str) -> str:
        if name == "bad":
            raise BrokenFileError(tmp_path / name, "0 bytes")
        return name.upper()

    run = parallel.ParallelRun(argparse.Namespace(workers=None, quiet=True), "halves")
    assert list(run(["a", "bad", "c"], half)) == [("a", "A"), ("c", "C")]
    assert run.finish(tmp_path, 2, 0) == 1
    printed = "".join(capsys.readouterr())
    assert "bad: 0 bytes" in printed and "2 made, 0 already there, 1 skipped" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give either a PNG to write or --time N"),
        (["a.png", "--time", "3"], "give either a PNG to write or --time N"),
        (["--time", "0"], "--time: got 0, expected at least 1"),
        (["--time", "-2"], "--time: got -2, expected at least 1"),
        (["a.png", "--show", "0"], "--show: expected at least 1"),
        (["a.png", "--size", "15"], "--size: at least 16"),
        (["a.png", "--task", "gardens"], "invalid choice: 'gardens'"),
    ],
)
def test_mistakes_at_the_program_that_shows_scenes(capsys, words, message):
    with pytest.raises(SystemExit) as stopped:
        show_scenes(words)
    assert stopped.value.code == 2 and message in capsys.readouterr().err
