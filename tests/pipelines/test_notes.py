"""Notes on pictures that cannot come out well: when they are given, and that good inputs get none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from midms.conditions.make import line_drawing
from midms.conditions.photos import annotate, models
from midms.data.procedural.dataset import test_pairs as pairs
from midms.pipelines import notes as notes_module
from midms.pipelines.midms import MIDMsPipeline
from midms.pipelines.notes import (
    UsedExemplar,
    least_cosine,
    mean_best_cosine,
    missing_person,
    note_on_parts,
    note_on_size,
    notes_on,
    what_weights_know,
)
from midms.pipelines.pictures import read_picture

SHIPPED = ("demo", "demo-64", "demo-figures", "demo-churches")


@pytest.fixture(scope="module")
def demo() -> MIDMsPipeline:
    return MIDMsPipeline.from_pretrained("demo-64")


def used(pipe: MIDMsPipeline, picture: Any, size: tuple[int, int] | None = (640, 480)) -> UsedExemplar:
    return UsedExemplar("me.jpg", read_picture(picture), pipe.encode_exemplar(picture), size)


def notes(pipe: MIDMsPipeline, maps: torch.Tensor, *exemplars: UsedExemplar, read: str = "") -> list[str]:
    return notes_on(pipe, maps, pipe.encode_condition(maps[None]), exemplars, read)


def sample_maps(pipe: MIDMsPipeline, number: int = 1, size: int | None = None) -> torch.Tensor:
    return torch.from_numpy(pipe.sample(number, size).condition).float() / 255


def test_large_networks_are_not_made_to_encode_the_samples(
    demo: MIDMsPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which at the published size took as long as the translation."""
    condition = demo.encode_condition(sample_maps(demo)[None])
    assert least_cosine(demo, condition) is not None
    monkeypatch.setattr("midms.models.numerics.LARGE", 1)
    monkeypatch.setattr(notes_module, "_known_features", lambda pipe: pytest.fail("samples were encoded"))
    assert least_cosine(demo, condition) is None
    photo = used(demo, np.full((128, 128, 3), 200, np.uint8))
    assert all("far from what these weights know" not in note for note in notes(demo, sample_maps(demo), photo))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_say_that_they_know_drawings(name: str) -> None:
    pipe = MIDMsPipeline.from_pretrained(name)
    said = what_weights_know(pipe)
    assert f"drawn {pipe.task if pipe.task != 'figures' else 'people'}".replace("faces", "portraits") in said
    assert f"{pipe.info['size']} pixels" in said and "seen no photo" in said


def test_a_sample_has_no_note(demo: MIDMsPipeline) -> None:
    for number in (1, 5):
        sample = demo.sample(number)
        assert notes(demo, sample_maps(demo, number), used(demo, sample.exemplar)) == []


def test_lines_without_parts_are_told_from_faces(demo: MIDMsPipeline) -> None:
    drawing = Image.new("L", (64, 64), 255)
    drawing.paste(0, (10, 30, 50, 32))
    lines = line_drawing(drawing)
    assert "no parts of a face" in note_on_parts(lines) and notes(demo, lines)[0] == note_on_parts(lines)
    assert note_on_parts(sample_maps(demo)) == "" == note_on_parts(torch.ones(20, 8, 8))
    assert notes(demo, lines, read="read as edges") == ["read as edges"], "one note on the condition"


@pytest.mark.parametrize(("ratio", "noted"), [(0.5, True), (0.75, True), (0.9, False), (1.5, False), (2.0, True)])
def test_sizes_far_from_the_weights_own(demo: MIDMsPipeline, ratio: float, noted: bool) -> None:
    side = round(demo.condition_spec().side * ratio)
    said = note_on_size(demo, torch.zeros(15, side, side))
    assert bool(said) == noted and (not noted or f"at {side} x {side} pixels" in said)


def test_the_shape_alone_is_no_reason(demo: MIDMsPipeline) -> None:
    side = demo.condition_spec().side
    assert note_on_size(demo, torch.zeros(15, side // 2, side * 2)) == ""


def test_weights_without_a_size_have_no_wrong_one(tiny_pipeline_folder: Path) -> None:
    pipe = MIDMsPipeline.from_pretrained(tiny_pipeline_folder)
    del pipe.info["size"]
    assert note_on_size(pipe, torch.zeros(15, 999, 999)) == ""


def test_an_exemplar_of_few_pixels(demo: MIDMsPipeline) -> None:
    exemplar = used(demo, demo.sample(2).exemplar, (20, 30))
    (said,) = notes(demo, sample_maps(demo), exemplar)
    assert said.startswith("me.jpg has 20 x 30 pixels")
    assert notes(demo, sample_maps(demo), exemplar._replace(size=None)) == [], "a sample is as large as it is drawn"


@pytest.mark.parametrize("name", SHIPPED)
def test_what_the_weights_never_saw(name: str) -> None:
    """Noise is far from all of them, and most unseen pictures of their own task are not."""
    pipe = MIDMsPipeline.from_pretrained(name)
    maps, side = sample_maps(pipe), pipe.condition_spec().side
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    (said,) = notes(pipe, maps, used(pipe, noise))
    assert said.startswith("me.jpg is far from what these weights know (drawn ") and "seen no photo" in said
    condition, own = pipe.encode_condition(maps[None]), pairs(pipe.task, side, 38)  # type: ignore[arg-type]  # a task
    features = pipe.encode_exemplar([own[index]["exemplar"] for index in range(30, 38)]).features
    least = least_cosine(pipe, condition)
    assert least is not None and sum(mean_best_cosine(condition, row[None]) < least for row in features) <= 1


def test_samples_are_encoded_once_for_a_pipeline(demo: MIDMsPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later pictures of the app are compared with the features that its first one left."""
    first, second = (demo.encode_condition(f"sample:{number}") for number in (1, 2))
    before = least_cosine(demo, first)
    monkeypatch.setattr(demo, "encode_exemplar", lambda *given: pytest.fail("the samples were encoded again"))
    assert least_cosine(demo, first) == before != least_cosine(demo, second)


def test_samples_are_compared_as_if_they_were_encoded_at_once(
    demo: MIDMsPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_parts = notes_module._known_features(demo)
    monkeypatch.setattr(notes_module, "_AT_ONCE", notes_module._COMPARED)
    monkeypatch.setattr(notes_module, "_KNOWN", {})
    at_once = notes_module._known_features(demo)
    assert len(in_parts) == len(at_once) == notes_module._COMPARED
    assert torch.allclose(in_parts, at_once, rtol=0, atol=1e-5 * float(at_once.abs().max()))


def test_a_photo_without_a_face(demo: MIDMsPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks of `midms get photos` are asked only about pictures that are far, where the weights are known."""
    asked = []

    def find_face(pixels: np.ndarray) -> None:
        asked.append(pixels.shape)
        raise annotate.PhotoError("no face")

    monkeypatch.setattr(annotate, "find_face", find_face)
    flat = np.full((64, 64, 3), 90, np.uint8)
    assert "no face" not in notes(demo, sample_maps(demo), used(demo, flat))[0] and not asked, "no networks to ask"
    monkeypatch.setattr(models, "have_models", lambda: True)
    assert "(no face was found in it)" in notes(demo, sample_maps(demo), used(demo, flat))[0]
    assert asked == [(64, 64, 3)]
    assert notes(demo, sample_maps(demo), used(demo, demo.sample(3).exemplar)) == [] and len(asked) == 1


def test_other_weights_are_told_of_photos_without_a_face(
    tiny_pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = MIDMsPipeline.from_pretrained(tiny_pipeline_folder)
    pipe.info["task"] = "celeba"
    maps, exemplar = torch.zeros(15, 32, 32), used(pipe, np.zeros((32, 32, 3), np.uint8))
    assert notes(pipe, maps, exemplar) == [] == notes(pipe, maps)
    monkeypatch.setattr(models, "have_models", lambda: True)
    monkeypatch.setattr(annotate, "find_face", lambda pixels: (None, 1))
    assert notes(pipe, maps, exemplar) == []
    monkeypatch.undo()
    assert what_weights_know(pipe) == "They know pictures like those they were trained on (celeba), 32 pixels per side."


def test_real_photos(demo: MIDMsPipeline, photo_networks: Path, shared: Path) -> None:
    """A face is found in every portrait, at the size of the weights; none in the back of a wall."""
    portraits = sorted((shared / "samples" / "CelebAMask-HQ" / "CelebA-HQ-img").glob("*.jpg"))
    small = [read_picture(Image.open(file).convert("RGB").resize((64, 64))) for file in portraits]
    assert small and [missing_person(demo, picture) for picture in small] == [""] * len(small)
    assert missing_person(demo, torch.zeros(3, 64, 64)) == "no face was found in it"
