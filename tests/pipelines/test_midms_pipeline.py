"""Images in, images out: whatever the batch, the form of the input, or the folder it was saved to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from midms.config import ConfigError
from midms.pipelines.midms import MIDMsPipeline, batch_conditions, batch_pictures, read_picture


def test_a_seed_gives_one_image_whatever_the_batch(pipe, inputs):
    conditions, exemplars = inputs
    together = pipe(conditions, exemplars, seed=5, output_type="pt").images
    alone = [pipe(conditions[i], exemplars[i], seed=5 + i, output_type="pt").images[0] for i in range(8)]
    assert torch.equal(together, torch.stack(alone))
    assert (pipe(conditions[0], exemplars[0], seed=6, output_type="pt").images[0] - alone[0]).abs().max() > 1e-4


def test_saving_and_loading_changes_nothing(pipe, inputs, tmp_path):
    again = MIDMsPipeline.from_pretrained(pipe.save_pretrained(tmp_path / "copy"))
    first, second = (p(inputs[0][0], inputs[1][0], output_type="pt").images for p in (pipe, again))
    assert torch.equal(first, second) and again.settings == pipe.settings


def test_an_encoded_exemplar_serves_many_conditions(pipe, inputs):
    conditions, exemplars = inputs
    ready = pipe.encode_exemplar(exemplars[0])
    many = pipe(conditions[:3], ready, seed=[1, 2, 3], output_type="pt").images
    one = pipe(conditions[1], exemplars[0], seed=2, output_type="pt").images[0]
    assert (many[1] - one).abs().max() < 1e-4
    several = pipe(conditions[0], [ready, pipe.encode_exemplar(exemplars[1])], return_intermediates=True)
    assert several.warps.shape == (1, 3, 32, 32)


def test_any_size_is_padded_and_cut_back(pipe):
    odd = pipe(torch.rand(15, 30, 45), torch.zeros(3, 33, 27), return_intermediates=True)
    assert odd.images[0].size == (45, 30) and odd.warps.shape == (1, 3, 30, 45)


def test_intermediates(pipe, inputs):
    output = pipe(inputs[0][:2], inputs[1][:2], num_inference_steps=20, return_intermediates=True)
    assert len(output.predictions) == 5 and len(output.masks) == 3
    assert output.masks[0].shape == (2, 1, 8, 8) and output.correspondence.shape == (2, 2, 8, 8)
    assert output.images[1].size == (32, 32) and output.correspondence.abs().max() <= 1


def test_pictures_of_every_kind_are_read(tmp_path):
    pixels = (np.arange(12 * 10 * 3).reshape(12, 10, 3) % 255).astype(np.uint8)
    rgb = Image.fromarray(pixels)
    want = read_picture(rgb)
    assert want.shape == (3, 12, 10)
    assert torch.equal(read_picture(pixels), want) and torch.equal(read_picture(want), want)
    clear = Image.new("RGBA", (10, 12), (9, 9, 9, 0))
    assert (read_picture(clear) == 1).all()
    for mode in ("L", "CMYK", "P", "1", "LA"):
        assert read_picture(rgb.convert(mode)).shape == (3, 12, 10)
    deep = Image.fromarray(np.full((4, 4), 65535, np.uint16))
    assert (read_picture(deep) == 1).all()
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(tmp_path / "turned.jpg", exif=exif)
    assert read_picture(tmp_path / "turned.jpg").shape == (3, 10, 12)
    assert batch_pictures([rgb, rgb], 16).shape == (2, 3, 18, 15)  # 10 x 12 in about 16 x 16 pixels
    assert batch_pictures([rgb, rgb.rotate(90, expand=True)], 16).shape == (2, 3, 16, 16)


def test_drawings_become_edge_channels(tmp_path):
    drawing = np.full((16, 16), 255, np.uint8)
    drawing[4] = 0
    Image.fromarray(drawing).save(tmp_path / "sketch.png")
    maps = batch_conditions(tmp_path / "sketch.png")
    assert maps.shape == (1, 15, 16, 16)
    assert maps[0, 0, 4].all() and maps[0, 0].sum() == 16 and (maps[0, 1:14] == 1).all()
    np.save(tmp_path / "maps.npy", np.full((15, 8, 8), 255, np.uint8))
    assert (batch_conditions([tmp_path / "maps.npy"]) == 1).all()


def test_a_drawing_of_any_size_gets_a_picture_of_that_size(pipe, inputs):
    drawing = Image.new("L", (150, 70), 255)
    drawing.paste(0, (0, 30, 150, 32))
    output = pipe(drawing, inputs[1][0], return_intermediates=True)
    assert output.images[0].size == (150, 70) and output.warps.shape[-2:] == (22, 47)
    assert torch.equal(pipe(pipe.encode_condition(drawing), inputs[1][0]).latents, output.latents)


def test_mistakes_are_told_in_one_line(pipe, inputs, tmp_path):
    (tmp_path / "empty.png").touch()
    Image.new("RGB", (40, 40), "red").save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    for name, message in (
        ("none.png", "no such file"),
        ("empty.png", "0 bytes"),
        ("cut.png", "not a whole picture"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_picture(tmp_path / name)
    for call, message in (
        (lambda: pipe(inputs[0][:3], inputs[1][:2]), "2 exemplars for 3 conditions"),
        (lambda: pipe(torch.rand(7, 32, 32), inputs[1][0]), "7 channels, these weights take 15"),
        (lambda: pipe(inputs[0][:2], inputs[1][0], seed=[1]), "1 seeds for 2 pairs"),
        (lambda: pipe(torch.rand(32, 32), inputs[1][0]), "expected maps"),
        (lambda: read_picture(torch.rand(4, 8, 8)), "expected \\(3, H, W\\)"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ConfigError, match="'nothing'"):
        MIDMsPipeline.from_pretrained("nothing")


def test_seeds_may_be_given_one_by_one(pipe, inputs):
    """A list of seeds names each pair's own; two pairs of one seed and equal inputs are one picture."""
    conditions, exemplars = inputs
    listed = pipe(conditions[:3], exemplars[:3], seed=[7, 1, 7], output_type="pt").images
    alone = [
        pipe(conditions[i], exemplars[i], seed=seed, output_type="pt").images[0] for i, seed in enumerate((7, 1, 7))
    ]
    assert (listed - torch.stack(alone)).abs().max() < 1e-6
    twice = pipe(conditions[:1].repeat(2, 1, 1, 1), exemplars[:1], seed=[7, 7], output_type="pt").images
    assert torch.equal(twice[0], twice[1])


@pytest.mark.parametrize("seeds", [[1], [1, 2, 3, 4]])
def test_another_number_of_seeds_than_pairs_is_refused(pipe, inputs, seeds):
    with pytest.raises(ValueError, match=str(len(seeds))):
        pipe(inputs[0][:2], inputs[1][:2], seed=seeds)


def test_an_unknown_argument_is_named_with_the_known_ones(pipe, inputs):
    with pytest.raises(
        TypeError, match="MIDMsPipeline: got an unknown argument 'steps', expected some of callback, fir"
    ):
        pipe(inputs[0][0], inputs[1][0], steps=4)
