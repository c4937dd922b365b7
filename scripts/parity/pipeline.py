"""Golden cases of the whole inference of the released code, with explicit noises (`e2e_*`)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from midms.checkpoints.ldm import load_strictly
from midms.checkpoints.released import convert_released
from midms.diffusion.interleave import Interleaved, Rewarp, interleave, predict_once, refine
from midms.diffusion.schedule import Schedule, linear_schedule
from midms.diffusion.settings import InterleaveSettings
from midms.matching.confidence import cycle_consistency_mask, self_composition_error
from midms.matching.correspondence import Match, match, normalize_features
from midms.models.denoiser import Denoiser
from midms.models.encoders import ConditionFeatures, CorrespondenceEncoders, ExemplarFeatures
from midms.models.first_stage import FirstStage
from parity.cases import Case, CaseFunction, Check, compare, load_case

_EVERY = 8  # only every 8th channel of the matching features is stored


@dataclass
class ReleasedModel:
    """The networks of one case, through the converter, with its schedule and settings."""

    encoders: CorrespondenceEncoders
    denoiser: Denoiser
    first_stage: FirstStage
    schedule: Schedule
    settings: InterleaveSettings


def released_model(case: Case) -> ReleasedModel:
    """Networks in eval mode with the weights of a case that holds a whole released model."""
    config = case.meta["config"]
    params = config["latent_diffusion"]
    converted = convert_released(case.weights, case.name, params)
    encoders = CorrespondenceEncoders(**converted.configs["encoders"]).eval()
    denoiser = Denoiser(converted.configs["denoiser"]).eval()
    first_stage = FirstStage(converted.configs["first_stage"]).eval()
    for name, module in (("encoders", encoders), ("denoiser", denoiser.unet), ("first_stage", first_stage.model)):
        load_strictly(module, converted.states[name], case.name)
    schedule = linear_schedule(params["timesteps"], params["linear_start"], params["linear_end"])
    settings = InterleaveSettings.released().replace(
        num_inference_steps=4 * config["N"],
        num_interleaved_steps=config["N"],
        mask_form="released" if config.get("confidence_masking", True) else "none",
        refine_steps=20 if config.get("refine", False) else 0,
    )
    return ReleasedModel(encoders, denoiser, first_stage, schedule, settings)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Class numbers (B, 1, H, W) -> (B, classes, H, W) of zeros and ones."""
    return F.one_hot(labels[:, 0].long(), classes).permute(0, 3, 1, 2).float()


def condition_maps(case: Case) -> tuple[Tensor, Tensor]:
    """Condition and exemplar label maps of a case, one-hot where it stores class numbers."""
    if "input_semantics" in case.inputs:
        return case.inputs["input_semantics"], case.inputs["ref_semantics"]
    classes = case.meta["config"]["nch"]
    return one_hot(case.inputs["input_labels"], classes), one_hot(case.inputs["ref_labels"], classes)


#: tau of the release; the factor stands for the 1e-5 that its second normalisation adds to both norms.
RELEASED_TEMPERATURE = 0.005 * (1 + 1e-5) ** 2


def released_match(query: Tensor, key: Tensor, values: Tensor) -> Match:
    """The pipeline's matching with released settings, of raw features and values, (B, C, H, W) each."""
    return match(query, key, values, RELEASED_TEMPERATURE, cycle=True, clamp=True)


class _Run:
    """One inference, branch by branch, with all intermediate results that the case stores."""

    def __init__(self, case: Case, model: ReleasedModel) -> None:
        self.case, self.model = case, model
        self.got: dict[str, Tensor] = {}
        self.errors: dict[str, tuple[Tensor, int]] = {}  # name of a mask -> round-trip error behind it, and its step
        self.calls: dict[str, list[tuple[int, Tensor, Tensor]]] = {"ref": [], "src": [], "orig": []}
        self.channels = model.first_stage.latent_channels

    def denoise(self, branch: str, x: Tensor, t: Tensor) -> Tensor:
        """The U-Net, with its time, input and output kept."""
        eps = self.model.denoiser(x, t)
        self.calls[branch].append((int(t[0]), x, eps))
        return eps

    def noise(self, name: str) -> Tensor:
        return self.case.inputs[f"noise/{name}"]

    def encode(self, image: str) -> Tensor:
        kl = self.model.first_stage.kind == "kl"
        noise = self.noise(f"{image}_posterior") if kl else None
        return self.model.first_stage.encode(self.case.inputs[image], sample=kl, noise=noise)

    def run(self) -> None:
        encoders, got = self.model.encoders, self.got
        source, exemplar = self.encode("src"), self.encode("ref")  # (B, c, H, W)
        grids = [
            encoders.condition_grid(maps, (source.shape[2], source.shape[3])) for maps in condition_maps(self.case)
        ]
        condition = encoders.encode_condition(grids[0])
        source_features = encoders.encode_exemplar(source, grids[0])
        exemplar_features = encoders.encode_exemplar(exemplar, grids[1])
        for name, features in (
            ("trg_unit", condition.features),
            ("ref_unit", exemplar_features.features),
            ("src_latent_unit", source_features.features),
        ):
            got[name] = normalize_features(features)[:, ::_EVERY]
        values = torch.cat([exemplar, grids[1]], dim=1)  # (B, c + L, H, W)
        initial = released_match(condition.features, exemplar_features.features, values).warp  # (B, c + L, H, W)
        got["warp_ref_init"], got["warp_refseg_init"] = initial[:, : self.channels], initial[:, self.channels :]
        got["warp_src_init"] = released_match(condition.features, source_features.features, source).warp
        result = self.exemplar_branch(condition, exemplar_features, values)
        self.source_branch(condition, source_features, source)
        if "noise/orig_start" in self.case.inputs:
            self.diffusion_loss_call(source)
        self.refinement(result.latent)

    def exemplar_branch(self, condition: ConditionFeatures, exemplar: ExemplarFeatures, values: Tensor) -> Interleaved:
        got = self.got

        def rewarp(prediction: Tensor) -> Rewarp:
            step = 1 + sum(name.endswith("_ref_new") for name in got)
            features = self.model.encoders.encode_iterate(prediction, condition)  # (B, 256, H, W)
            matched = released_match(features, exemplar.key, values)
            settings = self.model.settings
            mask = cycle_consistency_mask(matched.forward_maps[0], None, settings.threshold, settings.mask_form)
            got[f"step{step}_ref_new"] = matched.warp[:, : self.channels]
            got[f"step{step}_refseg_new"] = matched.warp[:, self.channels :]
            got[f"step{step}_ref_cycle"] = matched.cycles[0][:, : self.channels]
            got[f"step{step}_iter_unit"] = normalize_features(features)[:, ::_EVERY]
            got[f"step{step}_refkey_unit"] = normalize_features(exemplar.key)[:, ::_EVERY]
            got[f"step{step}_fb"] = self_composition_error(matched.forward_maps[0])[:, 0]
            released_mask = cycle_consistency_mask(matched.forward_maps[0], None, settings.threshold, "released")
            for name in (f"step{step}_mask", "fb_mask_last"):
                got[name], self.errors[name] = released_mask, (got[f"step{step}_fb"], step)
            return Rewarp(matched.warp[:, : self.channels], mask)

        return self.chain("ref", got["warp_ref_init"], rewarp, self.model.settings)

    def source_branch(self, condition: ConditionFeatures, source: ExemplarFeatures, latent: Tensor) -> None:
        """The same chain on the source; it is warped again for the cycle loss, but the result is never used."""

        def rewarp(prediction: Tensor) -> Rewarp:
            step = 1 + sum(name.endswith("_src_new") for name in self.got)
            features = self.model.encoders.encode_iterate(prediction, condition)  # (B, 256, H, W)
            matched = released_match(features, source.key, latent)
            self.got[f"step{step}_src_new"], self.got[f"step{step}_src_cycle"] = matched.warp, matched.cycles[0]
            return Rewarp(matched.warp, torch.zeros_like(matched.warp[:, :1]))

        self.chain("src", self.got["warp_src_init"], rewarp, self.model.settings)

    def chain(self, branch: str, warp: Tensor, rewarp: Any, settings: InterleaveSettings) -> Interleaved:
        result = interleave(
            lambda x, t: self.denoise(branch, x, t),
            warp,
            rewarp,
            self.model.schedule,
            settings,
            self.noise(f"{branch}_start"),
        )
        entering = warp
        for index, prediction in enumerate(result.predictions):
            self.got[f"step{index}_{branch}_in"] = entering
            self.got[f"step{index}_{branch}_pred_x0"] = prediction
            entering = prediction
            if index < len(result.rewarps):
                mask = result.rewarps[index].mask
                entering = mask * result.rewarps[index].warp + (1 - mask) * prediction
        return result

    def diffusion_loss_call(self, source: Tensor) -> None:
        """The call on the freshly noised source latent, whose noise level is one step above the time of the call."""
        model, index = self.model, self.case.meta["config"]["rand_idx"]
        denoise, noise = partial(self.denoise, "orig"), self.noise("orig_start")
        self.got[f"step{index}_orig_in"] = source
        self.got[f"step{index}_orig_pred_x0"] = predict_once(
            denoise, source, model.schedule, model.settings, noise, index
        )

    def refinement(self, latent: Tensor) -> None:
        settings, calls = self.model.settings, self.calls.setdefault("refine", [])
        steps = [self.noise(f"refine_step_{step:02d}") for step in range(max(settings.refine_steps - 1, 0))]
        start = self.noise("refine_start") if settings.refine_steps else latent
        denoise = partial(self.denoise, "refine")
        self.got["latent_final"] = refine(denoise, latent, self.model.schedule, settings, start, steps)
        if calls:
            self.got["refine_first_x"] = calls[0][1]
            self.got["refine_last_x"], self.got["refine_last_eps"] = calls[-1][1:]

    def ordered_calls(self) -> list[tuple[int, Tensor, Tensor]]:
        """All U-Net calls in the order of the release: per step exemplar, source, and the loss call at its index."""
        order: list[tuple[int, Tensor, Tensor]] = []
        drawn = self.case.meta["config"].get("rand_idx")
        for index, pair in enumerate(zip(self.calls["ref"], self.calls["src"], strict=True)):
            order += [*pair, *(self.calls["orig"] if index == drawn else [])]
        return order + self.calls["refine"]


def check_mask(case: Case, name: str, mask: Tensor, error: Tensor, step: int, threshold: float) -> Check:
    """Masks (B, 1, H, W) must be equal, except in 2x2 cells with a pixel whose error is within tolerance of gamma."""
    allowed = case.tolerance(f"step{step}_fb")
    unsure = ((error - threshold).abs() < allowed).float()[:, None]  # (B, 1, H, W)
    unsure = F.interpolate(F.max_pool2d(unsure, 2), scale_factor=2.0)  # (B, 1, H, W)
    return compare(name, mask * (1 - unsure), case.outputs[name] * (1 - unsure), 0.0)


@torch.no_grad()
def check_end_to_end(path: Path) -> list[Check]:
    """`e2e_*`: every stored stage of one inference, from the images to the picture."""
    case = load_case(path)
    model = released_model(case)
    run = _Run(case, model)
    run.run()
    got, calls = run.got, run.ordered_calls()
    got["unet_t"] = torch.tensor([time for time, _, _ in calls])
    for number, (_, x, eps) in enumerate(calls[:3]):
        got[f"unet_call{number}_x"], got[f"unet_call{number}_eps"] = x, eps
    got["image"] = model.first_stage.decode(case.outputs.get("latent_final", got["latent_final"]))
    checks = [check for check in case.checks(got) if check.name not in run.errors]
    for name in (name for name in case.outputs if name in run.errors):
        checks.append(check_mask(case, name, got[name], *run.errors[name], model.settings.threshold))
    if "image" not in case.outputs:
        return checks
    own = model.first_stage.decode(got["latent_final"])
    allowed = max(case.tolerance("image"), case.meta.get("chain_image_tolerance", 0.0))
    return [*checks, compare("image of the own chain", own, case.outputs["image"], allowed)]


CASES: dict[str, CaseFunction] = {"e2e_*.safetensors": check_end_to_end}
