"""Published files to our folder, run, and back."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from small_ldm import LDM_YAML
from torch import Tensor

from midms.checkpoints.conversion import VGG_CONVS
from midms.checkpoints.convert import convert, convert_to_folder, convert_to_released
from midms.checkpoints.diffusers_folder import schedule_from_diffusers
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


SCHEDULER = {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear"}


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
    (target / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
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
    assert got.info["schedule"] == want.info["schedule"]
    for name, state in want.states.items():
        assert all(torch.equal(got.states[name][key], value) for key, value in state.items())
    with pytest.raises(CheckpointError, match="no averaged U-Net weights"):
        convert(folder, ema=True)


def test_way_back_refuses_what_the_release_cannot_hold(tmp_path: Path, write: Write) -> None:
    only: dict[str, Any] = {"vgg19": {"w": torch.zeros(1)}}
    save_states(tmp_path / "ours", only, {"vgg19": {}}, {})
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
    with pytest.raises(CheckpointError, match=r"config\.json: no such file"):
        convert(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta_schedule": "cosine"}, r"model\.params\.beta_schedule: Input should be 'linear', got 'cosine'"),
        ({"beta_schedule": "sqrt_linear"}, r"beta_schedule: Input should be 'linear'"),
        ({"parameterization": "x0"}, r"parameterization: Input should be 'eps'"),
        ({"given_betas": [0.1]}, "given_betas"),
        ({"linear_end": 0.0155}, r"stored betas are not those of .* end 0\.0155"),
        ({"linear_start": "85e-5"}, r"stored betas are not those of .* start 0\.00085"),
        ({"linear_start": "fast"}, "linear_start: Input should be a valid number"),
        ({"linear_start": float("nan")}, "linear_start: Input should be a finite number"),
        ({"timesteps": 999}, "stored betas are not those"),
        ({"timesteps": 10**12}, "timesteps: Input should be less than or equal to"),
        ({"scale_factor": -1}, "scale_factor: Input should be greater than 0"),
    ],
)
def test_a_yaml_of_another_computation_is_refused(
    ldm_state: dict[str, Tensor], tmp_path: Path, write: Write, change: dict[str, Any], message: str
) -> None:
    document = copy.deepcopy(LDM_YAML)
    document["model"]["params"] |= change
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(CheckpointError, match=message) as caught:
        convert(write({"state_dict": ldm_state}), tmp_path / "config.yaml")
    assert "\n" not in str(caught.value)


def test_numbers_that_yaml_reads_as_text_count(ldm_state: dict[str, Tensor], tmp_path: Path, write: Write) -> None:
    text = yaml.safe_dump(LDM_YAML).replace("linear_start: 0.0015", "linear_start: 15e-4")
    assert yaml.safe_load(text)["model"]["params"]["linear_start"] == "15e-4"
    (tmp_path / "config.yaml").write_text(text)
    result = convert(write({"state_dict": ldm_state}), tmp_path / "config.yaml")
    assert result.info["schedule"] == {"start": 0.0015, "end": 0.0195, "num_train_timesteps": 1000}


@pytest.mark.parametrize(
    ("stored", "told", "by_std", "expected"),
    [(None, None, False, 1.0), (None, 0.18215, False, 0.18215), (0.22, None, False, 0.22), (0.22, 1.0, True, 0.22),
     (0.18215, 0.18215, False, 0.18215), (0.22, 0.18215, False, None)],
)  # fmt: skip
def test_the_scale_is_the_files_or_the_yamls(
    ldm_state: dict[str, Tensor], tmp_path: Path, write: Write, stored: Any, told: Any, by_std: bool, expected: Any
) -> None:
    document = copy.deepcopy(LDM_YAML)
    document["model"]["params"] |= {} if told is None else {"scale_factor": told, "scale_by_std": by_std}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(document))
    state = ldm_state if stored is None else ldm_state | {"scale_factor": torch.tensor(stored)}
    source = write({"state_dict": state})
    if expected is None:
        with pytest.raises(CheckpointError, match=r"scale_factor is 0\.22 in the file, but 0\.18215 in the YAML"):
            convert(source, tmp_path / "config.yaml")
    else:
        found = convert(source, tmp_path / "config.yaml").configs["first_stage"]["scale_factor"]
        assert found == pytest.approx(expected, rel=1e-6)


def test_names_that_wrappers_changed(ldm_state: dict[str, Tensor], ldm_yaml: Path, write: Write) -> None:
    want = convert(write(ldm_state, "plain.ckpt"), ldm_yaml, ema=True)
    raw, averaged = ("model.diffusion_model.", "model._orig_mod.diffusion_model."), ("ema.diff", "ema._orig_moddiff")
    compiled = {key.replace(*raw).replace(*averaged): value for key, value in ldm_state.items()}
    for name, prefix in (("a.ckpt", "module."), ("b.ckpt", "module.module."), ("c.ckpt", "")):
        state = compiled if not prefix else {prefix + key: value for key, value in ldm_state.items()}
        got = convert(write({"state_dict": state}, name), ldm_yaml, ema=True)
        for part, values in want.states.items():
            assert all(torch.equal(got.states[part][key], value) for key, value in values.items())


@pytest.mark.parametrize("form", ["fp16", "non_ema", "sharded", "sharded fp16"])
def test_other_names_of_a_diffusers_part(
    ldm_state: dict[str, Tensor], ldm_yaml: Path, write: Write, tmp_path: Path, form: str
) -> None:
    folder = diffusers_folder(ldm_yaml, write(ldm_state), tmp_path / "diffusers", False)
    want = convert(folder)
    part, stem = folder / "vqvae", "diffusion_pytorch_model"
    state = load_file(part / f"{stem}.safetensors")
    (part / f"{stem}.safetensors").unlink()
    if form.startswith("sharded"):
        variant = ".fp16" if "fp16" in form else ""
        names = [f"{stem}-0000{k}-of-00002{variant}.safetensors" for k in (1, 2)]
        keys = sorted(state)
        for name, own in zip(names, (keys[::2], keys[1::2]), strict=True):
            save_file({key: state[key] for key in own}, part / name)
        index = {"weight_map": {key: names[position % 2] for position, key in enumerate(keys)}}
        (part / f"{stem}.safetensors.index{variant}.json").write_text(json.dumps(index))
    else:
        save_file(state, part / f"{stem}.{form}.safetensors")
    got = convert(folder)
    assert all(torch.equal(got.states["first_stage"][k], v) for k, v in want.states["first_stage"].items())
    if form == "sharded":
        index["weight_map"][keys[0]] = "../../elsewhere.safetensors"
        (part / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(CheckpointError, match="which does not lie beside it"):
            convert(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta_schedule": "linear"}, r"scheduler_config\.json: beta_schedule: Input should be 'scaled_linear', got"),
        ({"beta_schedule": "squaredcos_cap_v2"}, "beta_schedule"),
        ({"beta_schedule": None}, "beta_schedule"),
        ({"prediction_type": "v_prediction"}, r"prediction_type: Input should be 'epsilon', got 'v_prediction'"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
        ({"trained_betas": [0.1, 0.2]}, "stored betas are not those"),
        ({"beta_start": "x"}, "beta_start"),
        ({"num_train_timesteps": -1}, "num_train_timesteps"),
    ],
)
def test_schedulers_of_another_computation_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        schedule_from_diffusers(SCHEDULER | change, "scheduler_config.json")
    with pytest.raises(CheckpointError, match="beta_schedule: Field required"):
        schedule_from_diffusers({"beta_start": 0.0015}, "scheduler_config.json")


def test_written_weights_have_the_modes_of_new_files(
    ldm_state: dict[str, Tensor], ldm_yaml: Path, write: Write, tmp_path: Path
) -> None:
    convert_to_folder(write(ldm_state), tmp_path / "ours", ldm_yaml)
    (tmp_path / "plain").touch()
    modes = {path.stat().st_mode for path in (tmp_path / "ours").iterdir()}
    assert modes == {(tmp_path / "plain").stat().st_mode}


def test_a_full_disk_is_one_line(
    ldm_state: dict[str, Tensor], ldm_yaml: Path, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("midms.checkpoints.folder.save_file", full)
    source = write(ldm_state)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(CheckpointError, match=r"ours: cannot be written \(I/O error: No space left"):
        convert_to_folder(source, tmp_path / "ours", ldm_yaml)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
