"""Published files to our folder, run, and back."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from midms.checkpoints.conversion import VGG_CONVS
from midms.checkpoints.convert import convert, convert_to_folder, convert_to_released
from midms.checkpoints.errors import CheckpointError
from midms.checkpoints.folder import load_folder, save_states
from midms.checkpoints.released import to_released
from midms.diffusion.settings import InterleaveSettings
from midms.models.denoiser import Denoiser
from midms.models.encoders import CorrespondenceEncoders
from midms.models.first_stage import FirstStage
from midms.pipelines.midms import MIDMsPipeline

Write = Callable[..., Path]


def run_everything(folder: Path) -> dict[str, Tensor]:
    """Build every network of a folder with its weights and run it once."""
    loaded = load_folder(folder)
    outputs: dict[str, Tensor] = {}
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for name in {"denoiser", "refiner"} & set(loaded.states):
        denoiser = Denoiser(loaded.configs[name]).eval()
        denoiser.unet.load_state_dict(loaded.states[name])
        outputs[name] = denoiser(x, 10).detach()
    if "first_stage" in loaded.states:
        stage = FirstStage(loaded.configs["first_stage"]).eval()
        stage.model.load_state_dict(loaded.states["first_stage"])
        outputs["first_stage"] = stage.decode(stage.encode(x)).detach()
    if "encoders" in loaded.states:
        encoders = CorrespondenceEncoders(**loaded.configs["encoders"]).eval()
        encoders.load_state_dict(loaded.states["encoders"])
        outputs["encoders"] = encoders.encode_condition(torch.ones(1, 5, 8, 8)).features.detach()
    assert all(torch.isfinite(value).all() for value in outputs.values())
    return outputs


def test_latent_diffusion_there_and_back(
    ldm_state: dict[str, Tensor], ldm_yaml: Path, write: Write, tmp_path: Path
) -> None:
    source = write({"state_dict": ldm_state, "epoch": 3, "optimizer_states": [{"lr": 0.1}]})
    result = convert_to_folder(source, tmp_path / "ours", ldm_yaml)
    assert set(run_everything(tmp_path / "ours")) == {"denoiser", "first_stage"}
    assert result.info["schedule"] == {"start": 0.0015, "end": 0.0195, "num_train_timesteps": 1000}
    assert sum(map(len, result.ignored.values())) + len(result.states["first_stage"]) + 1 > 100
    convert_to_released(tmp_path / "ours", tmp_path / "back.ckpt")
    back = torch.load(tmp_path / "back.ckpt", weights_only=True)["state_dict"]
    needed = {key for key in ldm_state if key.startswith(("model.", "first_stage_model.")) and ".loss." not in key}
    assert set(back) == needed
    assert all(torch.equal(back[key], ldm_state[key]) for key in needed)
    again = convert_to_folder(tmp_path / "back.ckpt", tmp_path / "again", ldm_yaml)
    assert all(torch.equal(again.states["denoiser"][key], value) for key, value in result.states["denoiser"].items())


def test_every_key_is_either_taken_or_accounted_for(ldm_state: dict[str, Tensor], ldm_yaml: Path, write: Write) -> None:
    result = convert(write(ldm_state), ldm_yaml)
    left_out = [key for keys in result.ignored.values() for key in keys]
    taken = [key for key in ldm_state if key.startswith(("model.", "first_stage_model.")) and ".loss." not in key]
    assert sorted(left_out + taken) == sorted(ldm_state)


def test_averaged_weights_on_request(ldm_state: dict[str, Tensor], ldm_yaml: Path, write: Write) -> None:
    source = write({"state_dict": ldm_state})
    raw, averaged = convert(source, ldm_yaml), convert(source, ldm_yaml, ema=True)
    name = "conv_in.weight"
    assert torch.equal(raw.states["denoiser"][name], ldm_state["model.diffusion_model.input_blocks.0.0.weight"])
    want = ldm_state["model_ema.diffusion_modelinput_blocks00weight"]
    assert torch.equal(averaged.states["denoiser"][name], want)


def test_released_there_and_back(
    released_state: dict[str, Tensor], ldm_yaml: Path, write: Write, tmp_path: Path
) -> None:
    source = write({"state_dict": released_state, "epoch": 1, "best_loss": 0.5}, "midms.pth")
    result = convert_to_folder(source, tmp_path / "ours", ldm_yaml, ema=True)
    outputs = run_everything(tmp_path / "ours")
    assert set(outputs) == {"denoiser", "refiner", "first_stage", "encoders"}
    assert not torch.allclose(outputs["denoiser"], outputs["refiner"])
    assert any("duplicates" in reason for reason in result.ignored)
    convert_to_released(tmp_path / "ours", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)["state_dict"]
    assert all(torch.equal(value, released_state[key]) for key, value in back.items())
    assert {key for key in released_state if key.startswith("seg_enc.")} <= set(back)


def test_a_converted_model_is_a_pipeline_with_the_released_protocol(
    released_state: dict[str, Tensor], ldm_yaml: Path, write: Write, tmp_path: Path
) -> None:
    convert_to_folder(write(released_state, "midms.pth"), tmp_path / "ours", ldm_yaml)
    pipe = MIDMsPipeline.from_pretrained(tmp_path / "ours")
    assert pipe.settings == InterleaveSettings.released()
    assert pipe.model.temperature == pytest.approx(0.005, rel=1e-4)
    pipe.save_pretrained(tmp_path / "again")
    convert_to_released(tmp_path / "again", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)["state_dict"]
    assert all(torch.equal(value, released_state[key]) for key, value in back.items())


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("encoders", {"padding_mode": "reflect"}, "padding_mode 'reflect'; the released code has 'zeros' only"),
        ("encoders", {"form": "paper"}, "form 'paper'; the released code has 'released' only"),
        ("denoiser", {"norm_groups": 8}, "denoiser has 8 norm groups"),
    ],
)
def test_way_back_refuses_what_would_silently_compute_something_else(
    released_state: dict[str, Tensor], ldm_yaml: Path, write: Write, part: str, change: dict[str, Any], message: str
) -> None:
    result = convert(write(released_state, "midms.pth"), ldm_yaml)
    configs = {**result.configs, part: {**result.configs[part], **change}}
    with pytest.raises(CheckpointError, match=message):
        to_released(result.states, configs, "folder")


def test_released_file_saved_from_parallel_training(
    released_state: dict[str, Tensor], ldm_yaml: Path, write: Write
) -> None:
    plain = convert(write(released_state, "a.pth"), ldm_yaml)
    wrapped = convert(write({f"module.{key}": value for key, value in released_state.items()}, "b.pth"), ldm_yaml)
    assert plain.states["encoders"].keys() == wrapped.states["encoders"].keys()


def test_first_stage_alone(ldm_state: dict[str, Tensor], write: Write, tmp_path: Path) -> None:
    prefix = "first_stage_model."
    state = {key.removeprefix(prefix): value for key, value in ldm_state.items() if key.startswith(prefix)}
    convert_to_folder(write({"state_dict": state}), tmp_path / "ours")
    assert set(run_everything(tmp_path / "ours")) == {"first_stage"}


def test_half_precision_and_old_file_formats(ldm_state: dict[str, Tensor], ldm_yaml: Path, write: Write) -> None:
    halved = {key: value.half() if value.is_floating_point() else value for key, value in ldm_state.items()}
    result = convert(write(halved, "old.ckpt", _use_new_zipfile_serialization=False), ldm_yaml)
    assert {value.dtype for value in result.states["denoiser"].values()} == {torch.float32}


def test_safetensors_under_published_names(ldm_state: dict[str, Tensor], ldm_yaml: Path, tmp_path: Path) -> None:
    save_file(ldm_state, tmp_path / "model.safetensors")
    assert set(convert(tmp_path / "model.safetensors", ldm_yaml).states) == {"denoiser", "first_stage"}


def test_vgg(write: Write, tmp_path: Path) -> None:
    channels, state = 3, {}
    for name in VGG_CONVS:
        out = min(64 * 2 ** (int(name[4]) - 1), 512)
        state |= {f"{name}.weight": torch.zeros(out, channels, 3, 3), f"{name}.bias": torch.zeros(out)}
        channels = out
    convert_to_folder(write(state, "vgg19_conv.pth"), tmp_path / "ours")
    assert load_folder(tmp_path / "ours").states["vgg19"].keys() == state.keys()
    del state["conv5_4.bias"]
    with pytest.raises(CheckpointError, match=r"missing: conv5_4\.bias"):
        convert(write(state, "vgg19_conv.pth"))


def diffusers_folder(ldm_yaml: Path, source: Path, target: Path, old_names: bool) -> Path:
    """The same model as diffusers itself saves it."""
    result = convert(source, ldm_yaml)
    denoiser, stage = Denoiser(result.configs["denoiser"]), FirstStage(result.configs["first_stage"])
    denoiser.unet.load_state_dict(result.states["denoiser"])
    stage.model.load_state_dict(result.states["first_stage"])
    denoiser.unet.save_pretrained(target / "unet", safe_serialization=False)
    stage.model.save_pretrained(target / "vqvae")
    (target / "model_index.json").write_text('{"_class_name": "LDMPipeline", "unet": [], "vqvae": [], "scheduler": []}')
    (target / "scheduler").mkdir()
    (target / "scheduler" / "scheduler_config.json").write_text('{"beta_start": 0.0015, "beta_end": 0.0195}')
    if old_names:
        file = target / "unet" / "diffusion_pytorch_model.bin"
        names = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
        pattern = re.compile("|".join(map(re.escape, names)))
        state = torch.load(file, weights_only=True)
        torch.save({pattern.sub(lambda match: names[match[0]], key): value for key, value in state.items()}, file)
    return target


@pytest.mark.parametrize("old_names", [False, True])
def test_diffusers_folder(
    ldm_state: dict[str, Tensor], ldm_yaml: Path, write: Write, tmp_path: Path, old_names: bool
) -> None:
    source = write({"state_dict": ldm_state})
    folder = diffusers_folder(ldm_yaml, source, tmp_path / "diffusers", old_names)
    got, want = convert(folder), convert(source, ldm_yaml)
    assert got.info["schedule"] == {"start": 0.0015, "end": 0.0195}
    for name, state in want.states.items():
        assert all(torch.equal(got.states[name][key], value) for key, value in state.items())
    with pytest.raises(CheckpointError, match="no averaged U-Net weights"):
        convert(folder, ema=True)


def test_way_back_refuses_what_the_release_cannot_hold(tmp_path: Path, write: Write) -> None:
    only: dict[str, Any] = {"encoders": {"w": torch.zeros(1)}}
    save_states(tmp_path / "ours", only, {"encoders": {}}, {})
    with pytest.raises(CheckpointError, match="expected denoiser and first_stage"):
        convert_to_released(tmp_path / "ours", tmp_path / "back.pth")
    taken = write({}, "taken.pth")
    with pytest.raises(CheckpointError, match="exists already"):
        convert_to_released(tmp_path / "ours", taken)
    assert not (tmp_path / "back.pth").exists()


def test_diffusers_settings_that_we_do_not_have_are_refused(
    ldm_state: dict[str, Tensor], ldm_yaml: Path, write: Write, tmp_path: Path
) -> None:
    folder = diffusers_folder(ldm_yaml, write(ldm_state), tmp_path / "diffusers", False)
    file = folder / "unet" / "config.json"
    file.write_text(file.read_text().replace('"flip_sin_to_cos": true', '"flip_sin_to_cos": false'))
    with pytest.raises(CheckpointError, match="flip_sin_to_cos is False, only True"):
        convert(folder)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"config\.json: not readable"):
        convert(folder)
