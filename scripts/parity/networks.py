"""Golden cases of single networks: encoders, matching head, U-Nets and first stages of the released code."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from midms.checkpoints.ldm import (
    first_stage_from_ldm,
    load_strictly,
    unet_from_ldm,
)
from midms.checkpoints.ldm_config import first_stage_config, unet_config
from midms.checkpoints.released import convert_released
from midms.models.denoiser import Denoiser
from midms.models.encoders import ConditionedEncoder, MatchingHead
from midms.models.first_stage import FirstStage
from parity.cases import Case, CaseFunction, Check, compare, load_case


def encoder_of(case: Case) -> ConditionedEncoder:
    """The released encoder that the case describes, in the case's mode, with its weights."""
    config = case.meta["config"]
    channels = config.get("label_nch", config.get("inch"))
    encoder = ConditionedEncoder(channels, config.get("ic", channels), out_channels=config["ch"])
    load_strictly(encoder, case.weights, case.name)
    return encoder.train(config["mode"] == "train")


@torch.no_grad()
def check_encoder(path: Path) -> list[Check]:
    """`enc_*`: the features, the result of every stage, and in train mode the spectral state afterwards."""
    case = load_case(path)
    encoder = encoder_of(case)
    x = case.inputs["semantics"] if "semantics" in case.inputs else case.inputs["latent"]
    stages: dict[str, Tensor] = {}
    for name in ("layer1", "layer2", "layer3"):
        encoder.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: stages.update({f"mid_{name}": output})
        )
    got = {"out": encoder(x, case.inputs.get("cond", x)), **stages}
    got |= {f"after/{key}": value for key, value in encoder.state_dict().items()}
    return case.checks(got)


@torch.no_grad()
def check_head(path: Path) -> list[Check]:
    """`head_*`: the shared residual blocks and both projections."""
    case = load_case(path)
    head = MatchingHead(256 + case.meta["config"]["nc"], 256).eval()
    load_strictly(head, case.weights, case.name)
    joint = torch.cat([case.inputs["feat"], case.inputs["semantics"]], dim=1)
    theta = head.project_condition(joint)
    got = {"layer": head.layer(joint), "theta": theta, "phi": head.project_exemplar(joint)}
    got["theta_unit"] = F.normalize(theta - theta.mean(dim=1, keepdim=True), dim=1, eps=0.0)
    return case.checks(got)


@torch.no_grad()
def check_unet(path: Path) -> list[Check]:
    """`unet_*`: the predicted noise, with a different time step per sample."""
    case = load_case(path)
    config = unet_config(case.meta["config"])
    denoiser = Denoiser(config).eval()
    load_strictly(denoiser.unet, unet_from_ldm(case.weights, config), case.name)
    return case.checks({"eps": denoiser(case.inputs["x"], case.inputs["t"])})


def first_stage_of(case: Case, kind: str) -> FirstStage:
    """The first stage that the case describes, with its weights."""
    config = first_stage_config(case.meta["config"], kind)
    first_stage = FirstStage(config).eval()
    load_strictly(first_stage.model, first_stage_from_ldm(case.weights, config), case.name)
    return first_stage


@torch.no_grad()
def check_vq(path: Path) -> list[Check]:
    """`vq_*`: latent, codes, and the decoded image with and without quantisation (from the stored latent, if any)."""
    case = load_case(path)
    first_stage = first_stage_of(case, "vq")
    encoded = first_stage.encode(case.inputs["image"])
    latents = case.outputs.get("z", encoded)
    quantised = first_stage.quantise(latents)
    got: dict[str, Any] = {
        "z": encoded,
        "quantized": quantised.latents,
        "indices": quantised.indices,
        "dec": first_stage.decode(latents),
        "dec_noquant": first_stage.decode(latents, quantise=False),
    }
    return case.checks(got)


@torch.no_grad()
def check_kl(path: Path) -> list[Check]:
    """`kl_*`: moments of the posterior, its mode, a sample with the given noise, and both decoded."""
    case = load_case(path)
    first_stage = first_stage_of(case, "kl")
    image = case.inputs["image"]
    got: dict[str, Any] = {
        "moments": first_stage.model.encode(image).latent_dist.parameters,
        "mode": first_stage.encode(image),
    }
    if "eps" in case.inputs:
        got["sample"] = first_stage.encode(image, sample=True, noise=case.inputs["eps"])
    for name in [name for name in ("mode", "sample") if name in got]:
        got[f"dec_{name}"] = first_stage.decode(case.outputs.get(name, got[name]))
    return case.checks(got)


def check_key_lists(path: Path) -> list[Check]:
    """`state_dict_keys.json.gz`: every key and shape of the released models is one that the converter maps or skips."""
    datasets = json.loads(gzip.decompress(path.read_bytes()))
    checks = []
    for name, listed in datasets.items():
        with torch.device("meta"):
            state = {key: torch.empty(shape) for key, shape in listed["keys"].items()}
            inner = {key.removeprefix("diff_model."): value for key, value in state.items() if "diff_model." in key}
            state |= {f"diffusion_sampler.model.{key}": value for key, value in inner.items()}
        checks.append(compare(f"{name} keys", len(state), listed["total_keys"], 0.0))
        converted = convert_released(state, f"{path.name}:{name}", check_values=False)
        counted = {part: sum(v.numel() for v in tensors.values()) for part, tensors in converted.states.items()}
        params = listed["params"]
        for part, key in (("denoiser", "unet"), ("first_stage", "first_stage")):
            checks.append(compare(f"{name} {part} parameters", counted[part], params[key], 0.0))
    return checks


CASES: dict[str, CaseFunction] = {
    "enc_*.safetensors": check_encoder,
    "head_*.safetensors": check_head,
    "unet_*.safetensors": check_unet,
    "vq_*.safetensors": check_vq,
    "kl_*.safetensors": check_kl,
    "state_dict_keys.json.gz": check_key_lists,
}
