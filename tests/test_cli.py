"""The program midms through its command line."""

from __future__ import annotations

import json
import os
import shlex
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from files_on_disk import pixels
from PIL import Image

from midms.cli import main
from midms.io.provenance import read_settings
from midms.pipelines.making import load_pipeline
from midms.pipelines.midms import MIDMsPipeline
from midms.translate import exemplar_mask
from midms.visualize import save_png, to_pixels


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a sketch, two photos, maps and masks, where the program runs."""
    rng = np.random.default_rng(0)
    for name, size in (("photo.jpg", (90, 60)), ("other.png", (33, 40))):
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(tmp_path / name)
    sketch = Image.new("L", (200, 120), 255)
    sketch.paste(0, (20, 50, 180, 54))
    sketch.save(tmp_path / "sketch.png")
    np.save(tmp_path / "maps.npy", rng.integers(0, 256, (15, 32, 32), dtype=np.uint8))
    half = Image.new("L", (90, 60), 0)
    half.paste(255, (0, 0, 45, 60))
    half.save(tmp_path / "half.png")
    Image.new("L", (9, 9), 255).save(tmp_path / "all.png")
    Image.new("L", (9, 9), 0).save(tmp_path / "none.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("sketch.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_two_pictures_become_one_of_the_size_of_the_sketch(folder, weights, capsys):
    command = "translate --condition sketch.png --exemplar photo.jpg --out made/out.png --weights"
    assert main([*command.split(), weights]) == 0
    assert Image.open("made/out.png").size == (200, 120) and pixels("made/out.png").std() > 1
    notes = read_settings("made/out.png")["notes"]
    assert "no parts of a face" in notes[0]
    assert capsys.readouterr().err.splitlines() == [*(f"note: {note}" for note in notes), "made/out.png: 200 x 120"]
    assert [path.name for path in Path("made").iterdir()] == ["out.png"]


def test_ready_maps_give_what_the_pipeline_gives(folder, weights):
    words = ["translate", "--condition", "maps.npy", "--exemplar", "other.png", "--weights", weights]
    assert main([*words, "--out", "out.png", "--seed", "7", "--steps", "12"]) == 0
    pipe = MIDMsPipeline.from_pretrained(weights)
    output = pipe("maps.npy", "other.png", seed=7, num_inference_steps=12, output_type="pt")
    assert np.array_equal(pixels("out.png"), to_pixels(output.images)[0])


def test_the_size_is_the_exemplars_too(folder, weights):
    words = ["translate", "--condition", "maps.npy", "--exemplar", "photo.jpg", "--weights", weights, "--calls", "2"]
    assert main([*words, "--size", "48", "--out", "out.png"]) == 0
    pipe = MIDMsPipeline.from_pretrained(weights)
    exemplar = pipe.encode_exemplar("photo.jpg", size=48)
    assert exemplar.latent.shape[-2:] == (10, 15)  # of 39 x 59 pixels
    output = pipe("maps.npy", exemplar, num_interleaved_steps=2, output_type="pt")
    assert np.array_equal(pixels("out.png"), to_pixels(output.images)[0])
    assert read_settings("out.png")["weight_files"] == pipe.weight_files != {}


def test_the_recorded_command_makes_the_same_bytes(folder, weights, capsys):
    words = ["translate", "--condition", "sketch.png", "--exemplar", "photo.jpg", "other.png", "--weights", weights]
    words += ["--exemplar-mask", "half.png", "all.png", "--seed", "3", "--calls", "3", "--threshold", "0.4"]
    assert main([*words, "--size", "24", "--out", "out.png"]) == 0
    first = Path("out.png").read_bytes()
    capsys.readouterr()
    assert main(["show", "out.png"]) == 0
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [f"midms show: note: {note}" for note in read_settings("out.png")["notes"]]
    assert shown.out.startswith("midms translate --condition sketch.png")
    Path("out.png").unlink()
    assert main(shlex.split(shown.out)[1:]) == 0
    assert Path("out.png").read_bytes() == first
    recorded = read_settings("out.png")
    assert recorded["settings"]["threshold"] == 0.4 and recorded["seed"] == 3
    assert set(recorded["inputs"]) == {"sketch.png", "photo.jpg", "other.png", "half.png", "all.png"}


def test_show_compares_the_files_that_it_is_given(folder, weights, capsys):
    words = ["translate", "--condition", "maps.npy", "--exemplar", "photo.jpg", "--weights", weights]
    assert main([*words, "--out", "out.png", "--calls", "1"]) == 0
    assert main(["show", "out.png", "maps.npy", "photo.jpg"]) == 0 and capsys.readouterr().err.count("none of") == 0
    Image.new("RGB", (4, 4)).save("photo.jpg")
    assert main(["show", "out.png"]) == 0 and capsys.readouterr().err == ""
    assert main(["show", "out.png", "maps.npy", "photo.jpg"]) == 0
    assert capsys.readouterr().err == "midms show: photo.jpg is none of the files that it was made from\n"
    assert main(["show", "out.png", "nowhere.jpg"]) == 2
    capsys.readouterr()
    assert main(["show", "out.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["num_interleaved_steps"] == 1


def test_masks_decide_which_exemplar_is_used(folder, weights):
    words = ["translate", "--condition", "maps.npy", "--weights", weights, "--calls", "1"]
    assert main([*words, "--exemplar", "photo.jpg", "--out", "one.png"]) == 0
    assert main([*words, "--exemplar", "photo.jpg", "other.png", "--out", "two.png"]) == 0
    assert main([*words, "--exemplar", "photo.jpg", "--exemplar-mask", "half.png", "--out", "half_used.png"]) == 0
    assert main([*words, "--exemplar", "photo.jpg", "--exemplar-mask", "all.png", "--out", "all_used.png"]) == 0
    assert np.array_equal(pixels("one.png"), pixels("all_used.png"))
    assert not np.array_equal(pixels("one.png"), pixels("two.png"))
    assert not np.array_equal(pixels("one.png"), pixels("half_used.png"))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40000), (40000, 1), (4, 32)])
def test_maps_of_a_pixel_or_a_line_are_refused_in_one_line(folder, weights, capsys, shape):
    np.save("maps.npy", np.zeros((15, *shape), np.float32))
    words = ["translate", "--condition", "maps.npy", "--exemplar", "photo.jpg", "--weights", weights]
    assert main([*words, "--out", "out.png"]) == 2
    error = capsys.readouterr().err
    assert f"condition of {shape[1]} x {shape[0]} pixels, expected more than" in error and error.count("\n") == 1
    assert not Path("out.png").exists()


@pytest.mark.parametrize("name", [".", "-", "/dev/null"])
@pytest.mark.parametrize("option", ["--condition", "--exemplar", "--exemplar-mask"])
def test_a_folder_a_dash_or_a_device_is_no_input(folder, weights, capsys, option, name):
    words = ["translate", "--condition", "maps.npy", "--exemplar", "photo.jpg", "--weights", weights]
    assert main([*words, "--out", "out.png", option, name]) == 2
    error = capsys.readouterr().err
    assert f"{name}: " in error and error.count("\n") == 1 and not Path("out.png").exists()


@pytest.mark.parametrize("colour", [255, 0])
def test_the_mask_of_a_cut_out_is_its_transparency(folder, colour):
    """Whatever lies under it; grey counts where nothing or everything is transparent."""
    right = np.zeros((20, 30), np.uint8)
    right[:, 15:] = 255
    pixels = np.full((20, 30, 4), colour, np.uint8)
    pixels[..., 3] = right
    Image.fromarray(pixels).save("cutout.png")
    assert (exemplar_mask(Path("cutout.png"))[0, 0].numpy() == (right > 127)).all()
    pixels[..., :3], pixels[..., 3] = right[..., None], 255
    Image.fromarray(pixels).save("opaque.png")
    assert (exemplar_mask(Path("opaque.png"))[0, 0].numpy() == (right > 127)).all()


def test_pictures_of_what_happened(folder, weights, capsys):
    words = "translate --condition sketch.png --exemplar photo.jpg other.png --out out.png --steps-picture s/steps.png"
    words += " --predictions-picture predictions.png --correspondence-picture matches.png --animation a.gif b.webp"
    assert main([*words.split(), "--weights", weights]) == 0
    assert "the first of the exemplars" in capsys.readouterr().err
    for name in ("s/steps.png", "predictions.png", "matches.png"):
        assert pixels(name).std() > 10
    assert Image.open("a.gif").n_frames > 4 and Image.open("b.webp").n_frames > 4


def test_edges_of_a_photo_say_that_no_networks_are_there(folder, weights, capsys):
    words = "translate --condition photo.jpg --condition-kind edges --exemplar other.png --out out.png --weights"
    assert main([*words.split(), weights]) == 0
    assert "note: the edges are Canny's alone" in capsys.readouterr().err and Image.open("out.png").size == (90, 60)


def test_a_portrait_photo_is_recorded_with_its_networks(folder, weights, monkeypatch, capsys):
    from midms.conditions.photos import annotate, models

    def portrait(photo: Image.Image, align: bool = True, min_side: int = 0) -> annotate.Portrait:
        cut = photo.crop((0, 0, 60, 60)) if align else photo
        return annotate.Portrait(cut, np.ones((cut.height, cut.width), np.uint8), "2 faces" if align else "")

    monkeypatch.setattr(models, "have_models", lambda: True)
    monkeypatch.setattr(annotate, "portrait", portrait)
    words = ["translate", "--condition", "photo.jpg", "--exemplar", "other.png", "--weights", weights, "--calls", "1"]
    assert main([*words, "--out", "out.png"]) == 0
    assert Image.open("out.png").size == (60, 60) and "note: 2 faces" in capsys.readouterr().err
    recorded = read_settings("out.png")
    assert recorded["condition_kind"] == "edges" and set(recorded["photo_networks"]) == set(models.MEMBERS) - {
        "LICENSE"
    }
    assert "--no-align" not in recorded["command"]
    assert main([*words, "--no-align", "--out", "whole.png"]) == 0
    assert Image.open("whole.png").size == (90, 60) and "--no-align" in read_settings("whole.png")["command"]
    assert main([*words, "--condition-kind", "drawing", "--out", "lines.png"]) == 0
    assert read_settings("lines.png")["photo_networks"] == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--condition gone.png", "gone.png: no such file"),
        ("--condition half.png --exemplar gone.jpg", "gone.jpg: no such file"),
        ("--weights nowhere", "weights 'nowhere'"),
        ("--out out.jpg", "--out out.jpg: expected a name that ends in .png"),
        ("--animation a.mp4", "--animation a.mp4: expected"),
        ("--steps-picture a.jpg", "--steps-picture a.jpg: expected"),
        ("--exemplar-mask all.png none.png", "--exemplar-mask: 2 files for 1 exemplars"),
        ("--exemplar-mask none.png", "none.png: the white part is smaller"),
        ("--steps 5 --calls 9", "num_interleaved_steps: got 9"),
        ("--steps 5000 --calls 1", "--steps 5000: expected at most 1000"),
        ("--threshold -1", "threshold"),
        ("--condition-kind keypoints", "these weights take 15 condition maps"),
        ("--device nonsense", "--device nonsense: "),
        ("--out sketch.png", "sketch.png: is also read"),
        ("--out ./other.png --exemplar other.png", "other.png: is also read"),
        ("--out pipe.png", "pipe.png: is a pipe, which is never replaced"),
        ("--out link.png", "link.png: is a link, which is never replaced"),
        ("--steps-picture out.png", "out.png: is the name of two outputs"),
        ("--animation a.gif a.gif", "a.gif: is the name of two outputs"),
        ("--condition pipe.png", "pipe.png: is a pipe; expected a picture"),
    ],
)
def test_a_mistake_is_one_line_and_exit_two(folder, weights, capsys, words, message):
    base = ["translate", "--condition", "sketch.png", "--exemplar", "photo.jpg", "--out", "out.png"]
    assert main([*base, "--weights", weights, *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.startswith("midms translate: ")
    assert not Path("out.png").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["translate"],
        ["translate", "--seed", "-1"],
        ["translate", "--condition-size", "10"],
        ["translate", "--size", "9999"],
        ["translate", "--threads", "0"],
        ["dance"],
        [],
    ],
)
def test_a_wrong_command_line_exits_two(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "midms" in capsys.readouterr().err


def test_show_refuses_what_has_no_settings(folder, capsys):
    assert main(["show", "sketch.png"]) == 2
    assert capsys.readouterr().err.startswith("midms show: sketch.png: no settings inside")


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf ~",
        "midms translate --out a.png; rm -rf ~",
        "midms translate --out $(touch ran)",
        "midms translate --out `touch ran`",
        "midms translate --out a.png\nrm -rf ~",
        "midms translate --out a.png\rrm -rf ~          ",
        "midms translate --out 'a\x1b]0;title\x07.png'",
        "midms translate --out 'a\N{RIGHT-TO-LEFT OVERRIDE}gnp.a'",
        "midms translate > ran",
        "midms translate 'unclosed",
        "midms app --host 0.0.0.0",
        "  midms translate --out a.png",
        ["midms", "translate"],
        7,
    ],
)
def test_a_strangers_command_is_shown_as_data_alone(folder, capsys, command):
    save_png(Path("evil.png"), np.zeros((2, 2, 3), np.uint8), {"midms": json.dumps({"command": command})})
    assert main(["show", "evil.png"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"command": command} and "not a `midms translate`" in printed.err
    assert not (set(printed.out) - {"\n"}) & set(map(chr, [*range(32), *range(127, 160), 0x202E]))
    assert not Path("ran").exists()


def test_show_opens_no_file_that_only_the_picture_names(folder, capsys, monkeypatch):
    os.mkfifo("pipe")  # whoever opens it waits for ever
    named = {"inputs": {"pipe": "0" * 16, "/etc/shadow": "0" * 16}, "weights": "../../..", "weight_files": {"a": "b"}}
    save_png(Path("evil.png"), np.zeros((2, 2, 3), np.uint8), {"midms": json.dumps(named)})
    assert main(["show", "evil.png"]) == 0
    assert json.loads(capsys.readouterr().out) == named


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, '{"seed": NaN}', "7" * 9999])
def test_a_record_that_is_none_is_one_line(folder, capsys, text):
    save_png(Path("evil.png"), np.zeros((2, 2, 3), np.uint8), {"midms": text})
    assert main(["show", "evil.png"]) == 2
    assert capsys.readouterr().err == "midms show: evil.png: its text chunk 'midms' is not a JSON object\n"


def test_info(weights, capsys):
    assert main(["info", weights]) == 0
    assert "condition: 15 maps" in capsys.readouterr().out
    assert main(["info", weights, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["size"] == 32 and facts["parameters"]["denoiser"] > 1000
    assert main(["info", "nothing"]) == 2


def test_the_rest_of_the_line_is_the_apps(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["app", "--help"])
    assert "--port" in capsys.readouterr().out


def test_threads_are_set_and_recorded(folder, weights, monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "set_num_threads", calls.append)  # two threads on a busy machine take half a minute
    words = ["translate", "--condition", "maps.npy", "--exemplar", "photo.jpg", "--weights", weights]
    assert main([*words, "--calls", "1", "--threads", "2", "--out", "out.png"]) == 0
    assert calls == [2] and f"--threads {torch.get_num_threads()}" in read_settings("out.png")["command"]


@pytest.fixture
def decodings(weights, monkeypatch):
    """What `midms translate` asks the networks for: U-Net calls, pictures encoded, decoded, and decoded batches."""
    counted: Counter[str] = Counter()

    def load(*options):
        pipe = load_pipeline(*options)
        stage = pipe.model.first_stage.model
        pipe.model.denoiser.register_forward_hook(lambda *_: counted.update(unet=1))
        if pipe.model.refiner is not None:
            pipe.model.refiner.register_forward_hook(lambda *_: counted.update(unet=1))
        stage.encoder.register_forward_hook(lambda _, inputs, __: counted.update(encoded=len(inputs[0])))
        stage.decoder.register_forward_hook(lambda _, inputs, __: counted.update(decoded=len(inputs[0]), batches=1))
        return pipe

    monkeypatch.setattr("midms.translate.load_pipeline", load)
    return counted


@pytest.mark.parametrize(
    ("words", "expected"),
    [  # N = 4 with two re-warps and 2 refining steps; the first warp is decoded apart from the steps
        # a photo is compared with 12 samples
        ("", {"unet": 6, "encoded": 1 + 12, "decoded": 1, "batches": 1}),
        ("--exemplar photo.jpg other.png", {"unet": 6, "encoded": 2 + 12, "decoded": 1, "batches": 1}),
        ("--correspondence-picture c.png", {"unet": 6, "encoded": 1 + 12, "decoded": 1, "batches": 1}),
        ("--steps-picture s.png", {"unet": 6, "encoded": 1 + 12, "decoded": 1 + 1 + 4, "batches": 3}),
        ("--predictions-picture p.png", {"unet": 6, "encoded": 1 + 12, "decoded": 1 + 1 + 4, "batches": 3}),
        ("--animation a.gif", {"unet": 6, "encoded": 1 + 12, "decoded": 1 + 1 + 6, "batches": 3}),
        ("--steps-picture s.png --predictions-picture p.png --animation a.gif b.webp",
         {"unet": 6, "encoded": 1 + 12, "decoded": 1 + 1 + 6, "batches": 3}),
        ("--protocol released", {"unet": 24, "encoded": 1 + 12, "decoded": 1, "batches": 1}),
        ("--protocol fast", {"unet": 4, "encoded": 1 + 12, "decoded": 1, "batches": 1}),
        # nothing refines: the last of the 4 predictions is the result
        ("--protocol fast --predictions-picture p.png", {"unet": 4, "encoded": 1 + 12, "decoded": 5, "batches": 3}),
    ],
)  # fmt: skip
def test_each_latent_that_is_asked_for_is_decoded_once(folder, weights, decodings, words, expected):
    base = ["translate", "--condition", "maps.npy", "--exemplar", "photo.jpg", "--out", "out.png", "--size", "32"]
    assert main([*base, "--weights", weights, *words.split()]) == 0
    assert dict(decodings) == expected


def test_other_outputs_do_not_change_the_picture(folder, weights):
    base = ["translate", "--condition", "maps.npy", "--exemplar", "photo.jpg", "--weights", weights]
    assert main([*base, "--out", "one.png"]) == 0
    assert main([*base, "--out", "two.png", "--animation", "a.gif", "--correspondence-picture", "c.png"]) == 0
    assert np.array_equal(pixels("one.png"), pixels("two.png"))


def test_how_it_is_computed_is_chosen_and_said(folder, weights, capsys):
    words = ["translate", "--condition", "maps.npy", "--exemplar", "photo.jpg", "--weights", weights, "--calls", "1"]
    assert main([*words, "--dtype", "bfloat16", "--fast", "--out", "out.png"]) == 0
    recorded = read_settings("out.png")
    assert (recorded["dtype"], recorded["fast"]) == ("bfloat16", True)
    assert "--dtype bfloat16 --fast" in recorded["command"]
    assert main([*words, "--out", "plain.png"]) == 0
    assert "--dtype float32 --no-fast" in read_settings("plain.png")["command"]
    capsys.readouterr()
    assert main(["info", weights, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["computed by default"] == {
        "dtype": "float32", "fast": False, "device": "cuda:0" if torch.cuda.is_available() else "cpu",
    }  # fmt: skip
