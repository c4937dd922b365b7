"""Golden cases of OIG: numbers of the released code on a tiny random Stable Diffusion."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from midms.oig import guidance, networks, schedule
from midms.oig.cycle import CycleStep
from midms.oig.features import FeatureTap, structure_layers
from midms.oig.images import prepare_images
from midms.oig.lockstep import Lockstep
from midms.oig.prompts import replace_word
from midms.oig.sampling import EditStep, edit_terms, invert, latent_gradient
from midms.oig.settings import RELEASED_EDIT, EditSettings
from parity.cases import CaseFunction, Check, compare

FLOAT64_TOLERANCE = 1e-9  # relative; an independent implementation has 1.1e-13
FLOAT32_TOLERANCE = 1e-3  # relative, end to end; the same implementation has 1.2e-4


@dataclass
class Golden:
    """Tensors of one file by name, and its metadata."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def check(self, name: str, got: Any, tolerance: float = FLOAT64_TOLERANCE, label: str = "") -> Check:
        """Compare `got` with the stored tensor of that name, relative to its size."""
        return compare(label + name, got, self.tensors[name], tolerance, relative=True)


def load_golden(path: Path) -> Golden:
    """Read a file; metadata values that are JSON are decoded."""
    with safe_open(str(path), framework="pt") as handle:
        tensors = {key: handle.get_tensor(key) for key in handle.keys()}
        raw = handle.metadata() or {}
    return Golden(tensors, {key: _decode(value) for key, value in raw.items()})


def _decode(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


@lru_cache(maxsize=4)
def tiny_pipeline(folder: Path, dtype: torch.dtype) -> Any:
    """The tiny Stable Diffusion beside the goldens as an `OIGPipeline`."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

    from midms.oig.pipeline import OIGPipeline

    pipeline = OIGPipeline(
        vae=AutoencoderKL.from_pretrained(folder / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(folder / "unet"),
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
        clip_model=CLIPModel.from_pretrained(folder / "clip"),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(dtype=dtype)


def check_units(path: Path) -> list[Check]:
    """Losses with their gradients, predictions of the ends, step sizes, CLIP preprocessing."""
    golden = load_golden(path)
    checks = [*_struct_units(golden), *_clip_units(golden), *_prediction_units(golden)]
    for key in sorted(k for k in golden.tensors if k.startswith("lr/")):
        count = int(key.split("/")[1])
        sizes = torch.tensor([guidance.oig_step_size(j, count) for j in range(count)], dtype=torch.float64)
        checks.append(golden.check(key, sizes))
    checks.append(golden.check("timesteps_50", schedule.make_schedule(golden["alphas_cumprod_f32"], 50).timesteps))
    for antialias in (True, False):
        key = f"preproc/out_antialias_{antialias}"
        got = networks.clip_preprocess(golden["preproc/image"], antialias=antialias)[:, :, ::4, ::4]
        checks.append(golden.check(key, got, FLOAT32_TOLERANCE))
    return checks


def _groups(golden: Golden, prefix: str) -> list[str]:
    return sorted({"/".join(key.split("/")[:2]) for key in golden.tensors if key.startswith(prefix)})


def _struct_units(golden: Golden) -> Iterable[Check]:
    margin = float(golden.meta["beta_f"])
    for group in _groups(golden, "struct/"):
        source, previous = golden[f"{group}/f_src"], golden[f"{group}/f_prev"]
        for name in ("first", "later"):
            features = golden[f"{group}/f_tgt"].clone().requires_grad_()
            to_source = guidance.feature_distances([features], [source]).mean(1, keepdim=True)  # halves averaged
            to_previous = guidance.feature_distances([features], [previous]).mean(1, keepdim=True)
            loss = guidance.structure_loss(to_source, to_previous if name == "later" else None, margin)
            yield golden.check(f"{group}/{name}", loss.squeeze())
            yield golden.check(f"{group}/{name}_grad", torch.autograd.grad(loss.sum(), features)[0])


def _clip_units(golden: Golden) -> Iterable[Check]:
    for group in _groups(golden, "clip/"):
        image = golden[f"{group}/image_feature"].clone().requires_grad_()
        texts = golden[f"{group}/y_src"], golden[f"{group}/y_tgt"]
        term = guidance.clip_margin_loss(image, *texts, float(golden[f"{group}/beta_p"]))
        yield golden.check(f"{group}/loss", term.loss.squeeze())
        yield golden.check(f"{group}/grad", torch.autograd.grad(term.loss.sum(), image)[0])


def _prediction_units(golden: Golden) -> Iterable[Check]:
    alphas = golden["alphas_cumprod_f32"]
    for group in _groups(golden, "x0hat/"):
        x, e, t = golden[f"{group}/x"], golden[f"{group}/eps"], int(golden[f"{group}/t"])
        yield golden.check(f"{group}/out", schedule.predict_x0(x, e, alphas[t]))
        up = group.replace("x0hat", "xThat")
        level, top = alphas[int(golden[f"{up}/t"])], alphas[int(golden[f"{up}/T"])]
        yield golden.check(f"{up}/out", schedule.predict_x_top(x, e, level, top))
        yield golden.check(f"{up}/out_alpha1", schedule.predict_x_top(x, e, torch.ones_like(top), top))


def check_schedulers(path: Path) -> list[Check]:
    """Sampling and inversion steps at every time of 50, 10 and 4 steps."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    golden, checks = load_golden(path), []
    alphas = DDIMScheduler(**golden.meta["config"]).alphas_cumprod
    for count in sorted({int(key.split("/")[0][1:]) for key in golden.tensors}):
        label, plan = f"N{count}/", schedule.make_schedule(alphas, count)
        x, e, ascending = golden[label + "x"], golden[label + "eps"], plan.timesteps[::-1]
        sampled = [schedule.ddim_step(x, e, t, plan) for t in plan.timesteps]
        clean = [schedule.predict_x0(x, e, plan.alpha(t)) for t in plan.timesteps]
        released = [schedule.inverse_step(x, e, t, plan, clamp_last=False) for t in ascending]
        mirrored = schedule.inversion_plan(plan, "diffusers")
        diffusers = [schedule.move(x, e, step.alpha_from, step.alpha_to) for step in mirrored]
        skipped = [step.t for step in schedule.inversion_plan(plan, "released")]
        results: dict[str, Any] = {
            "timesteps": plan.timesteps,
            "ddim_step": torch.stack(sampled),
            "ddim_pred_x0": torch.stack(clean),
            "off_inverse_step_at_ascending_t": torch.stack(released),
            "hf_inverse_step_at_ascending_t": torch.stack(diffusers),
            "hf_inverse_timesteps": [step.t for step in mirrored],
            "inversion_loop_timesteps": skipped,
        }
        checks += [golden.check(label + name, got) for name, got in results.items() if label + name in golden]
    return checks


def check_target_prompts(path: Path) -> list[Check]:
    """Word replacement; the largest difference is 0 (equal) or 1."""
    content = json.loads(path.read_text(encoding="utf-8"))
    vectors = content["word_features"]
    checks = []
    for case in content["cases"]:
        got = replace_word(case["prompt"], case["src"], case["tgt"], lambda ws: torch.tensor([vectors[w] for w in ws]))
        differs = (got.prompt, got.position) != (case["out"], case["idx"])
        checks.append(compare(case["prompt"], [float(differs)], [0.0], 0.0))
    return checks


def check_inversion(path: Path) -> list[Check]:
    """The released inversion loop from the stored code, in float64 and float32."""
    golden, checks = load_golden(path), []
    pixels = prepare_images(golden["image_uint8"].numpy(), golden["image_uint8"].shape[0], 1, "stretch")
    if "x0" in golden:
        checks.append(golden.check("x0", pixels, 1e-6))
    for dtype, tolerance, label in _precisions():
        pipe = tiny_pipeline(path.parent / "tiny_sd", dtype)
        plan = schedule.inversion_plan(pipe.sampling_schedule(int(golden.meta["N"])), "released")
        with torch.no_grad(), networks.frozen(pipe.unet):
            text = pipe.encode_prompts([golden.meta["prompt"]])
            trajectory = invert(pipe.noise_predictor(), plan, golden["z0_scaled"].to(dtype), text)
        results = [
            ("prompt_embeds", text, tolerance),
            ("x_in", trajectory[:-1, 0], tolerance),
            ("x_T", trajectory[-1], tolerance),
            ("t", [step.t for step in plan], 0.0),
        ]
        checks += [golden.check(name, got, bound, label) for name, got, bound in results if name in golden]
    return checks


def _precisions() -> list[tuple[torch.dtype, float, str]]:
    return [(torch.float64, FLOAT64_TOLERANCE, "float64 "), (torch.float32, FLOAT32_TOLERANCE, "float32 ")]


def edit_arguments(meta: dict[str, Any]) -> dict[str, Any]:
    """`OIGPipeline.__call__` arguments of the released run that a file describes."""
    return RELEASED_EDIT | {
        "num_inference_steps": int(meta["N"]),
        "guidance_scale": float(meta["guidance_scale"]),
        "negative_prompt": meta["negative_prompt"],
        "clip_weight": float(meta["lambda_1"]),
        "structure_weight": float(meta["lambda_2"]),
        "clip_margin": float(meta["beta_p"]),
        "structure_margin": float(meta["beta_f"]),
        "cycle_weight": float(meta["lambda_4"]),
        "cycle_source_weight": float(meta["lambda_3"]),
    }


def check_edit(path: Path) -> list[Check]:
    """A whole edit with the released quirks in float64 and float32; features and full gradients where stored."""
    golden, checks = load_golden(path), []
    for dtype, tolerance, label in _precisions():
        pipe = tiny_pipeline(path.parent / "tiny_sd", dtype)
        steps: list[EditStep] = []
        calls = {"n": 0}

        def count(*_: Any, calls: dict[str, int] = calls) -> None:
            calls["n"] += 1

        handle = pipe.unet.register_forward_pre_hook(count)
        arguments = edit_arguments(golden.meta) | {"output_type": "np", "on_step": steps.append}
        output = pipe(golden.meta["source_prompt"], golden.meta["target_prompt"], golden["x_T"].to(dtype), **arguments)
        handle.remove()
        if dtype == torch.float64:  # in float32 only results are checked, because hinges amplify rounding in the steps
            checks += [_step_check(golden, name, got) for name, got in _edit_values(golden, steps) if name in golden]
        results = [
            ("x_edit", output.latents, tolerance),
            ("src/x_rec", output.reconstruction_latents, tolerance),
            ("image_edit", output.images, FLOAT32_TOLERANCE),
            ("image_rec", output.reconstruction, FLOAT32_TOLERANCE),
        ]
        checks += [golden.check(name, got, bound, label) for name, got, bound in results if name in golden]
        if "unet_calls" in golden.meta and not float(golden.meta["lambda_4"]):
            excess = max(0, calls["n"] - sum(int(v) for v in golden.meta["unet_calls"].values()))
            checks.append(compare(label + "calls of the U-Net beyond the released code's", [excess], [0], 0.0))
    pipe = tiny_pipeline(path.parent / "tiny_sd", torch.float64)
    return [*checks, *_edit_texts(golden, pipe), *_edit_features(golden, pipe), *_full_gradient(golden, pipe)]


def _step_check(golden: Golden, name: str, got: Tensor) -> Check:
    """The step sizes were recorded in float32."""
    return golden.check(name, got, 1e-7 if name == "tgt/lr" else FLOAT64_TOLERANCE, "float64 ")


def _edit_values(golden: Golden, steps: list[EditStep]) -> Iterable[tuple[str, Tensor]]:
    """Our values for everything that a file stores about the steps."""

    def stacked(values: Iterable[Tensor]) -> Tensor:
        return torch.stack([v.detach() for v in values])

    first = -torch.ones_like(steps[0].evaluation.to_source) if steps[0].evaluation.to_source is not None else None
    yield "src/eps", stacked(s.evaluation.source_noise[0] for s in steps)
    yield "src/latent_in", torch.cat([golden["x_T"], *(s.source_next for s in steps[:-1])])
    yield "src/t", torch.tensor([s.t for s in steps])
    yield "tgt/x_in", stacked(s.x[0] for s in steps)
    yield "tgt/x_out", stacked(s.x_next[0] for s in steps)
    yield "tgt/eps", stacked(s.evaluation.target_noise[0] for s in steps)
    yield "tgt/x0_hat", stacked(s.x0[0] for s in steps)
    yield "tgt/grad_used", stacked(s.gradient[0] for s in steps)
    yield "tgt/i", torch.tensor([s.j for s in steps])
    yield "tgt/lr", torch.tensor([s.step_size for s in steps], dtype=torch.float64)
    yield "tgt/loss", stacked(s.terms.loss[0] for s in steps)
    yield "tgt/struct_loss", stacked(s.terms.structure[0] for s in steps)
    yield "tgt/cycle_loss", stacked(s.terms.cycle[0] for s in steps)
    clips = [s.terms.clip for s in steps if s.terms.clip is not None]
    if clips:
        yield "tgt/clip_loss", stacked(c.loss[0] for c in clips)
        yield "tgt/cos_src", stacked(c.cos_source[0] for c in clips)
        yield "tgt/cos_tgt", stacked(c.cos_target[0] for c in clips)
    if first is not None:
        sources = [s.evaluation.to_source for s in steps if s.evaluation.to_source is not None]
        previous = [
            s.evaluation.to_previous if s.j > 1 and s.evaluation.to_previous is not None else first for s in steps
        ]
        yield "tgt/mse_src", stacked(d[:, 0] for d in sources)
        yield "tgt/mse_prev", stacked(d[:, 0] for d in previous)
    cycles = [s.cycle for s in steps if s.cycle is not None]
    if cycles:
        yield from _cycle_values(cycles, steps)


def _cycle_values(cycles: list[CycleStep], steps: list[EditStep]) -> Iterable[tuple[str, Tensor]]:
    yield "cyc_src/t", torch.tensor([s.t for s in reversed(steps)])
    yield "cyc_src/x_in", torch.stack([c.y for c in cycles])
    yield "cyc_src/eps", torch.stack([c.noise for c in cycles])
    yield "cyc_src/x_T_hat", torch.stack([c.source_top for c in cycles])
    yield "cyc_src/pseudo_x_tgt_T", torch.stack([c.target_top for c in cycles])
    yield "cyc_src/x_tgt_0_hat", torch.stack([s.x0 for s in steps])
    yield "cyc_src/cycle_loss", torch.cat([c.loss for c in cycles])
    yield "cyc_src/x_out", torch.stack([c.y_next for c in cycles])
    yield "cyc_tgt/x_T_hat", torch.stack([c.top for c in cycles])


def _edit_texts(golden: Golden, pipe: Any) -> Iterable[Check]:
    """Text states and CLIP's text and image embeddings."""
    prompts = [golden.meta["source_prompt"], golden.meta["target_prompt"]]
    with torch.no_grad():
        states = pipe.encode_prompts(prompts)
        texts = pipe.embed_clip_text(prompts)
    for index, kind in enumerate(("src", "tgt")):
        if f"y_{kind}" in golden:
            yield golden.check(f"y_{kind}", texts[index : index + 1])
        name = f"prompt_embeds_{kind}"
        if name in golden:
            yield compare(name, states[index], golden[name][-1], FLOAT64_TOLERANCE, True)
    if "tgt/image_feature" in golden and "tgt/x0_hat" in golden:
        with torch.no_grad():
            images = networks.decode_latents(pipe.vae, golden["tgt/x0_hat"])
            yield golden.check("tgt/image_feature", networks.clip_image_embedding(pipe.clip_model, images))


def _edit_features(golden: Golden, pipe: Any) -> Iterable[Check]:
    """Feature maps read by hooks, if a file stores them (float32)."""
    if not any(key.startswith("tgt_feat/") for key in golden.tensors):
        return
    layers = structure_layers(pipe.unet)
    for kind, latents in (("src", golden["src/latent_in"]), ("tgt", golden["tgt/x_in"])):
        seen: list[list[Tensor]] = []
        for x, t in zip(latents, golden["src/t"].tolist(), strict=True):
            with torch.no_grad(), FeatureTap(list(layers.values())) as tap:
                pipe.noise_predictor()(torch.stack([x, x]), t, golden[f"prompt_embeds_{kind}"])
            seen.append(tap.features)
        for index, name in enumerate(golden.meta["feature_order"]):
            yield golden.check(f"{kind}_feat/{name}", torch.stack([maps[index] for maps in seen]), 1e-6)


def _full_gradient(golden: Golden, pipe: Any) -> Iterable[Check]:
    """guidance_branch="full" at every stored latent: the sum over the halves of `grad_both_halves` (OIG only)."""
    needed = ("src/latent_in", "tgt/x_in", "tgt/grad_both_halves")
    if float(golden.meta["lambda_4"]) > 0 or not all(name in golden for name in needed):
        return
    arguments = edit_arguments(golden.meta)
    plan, gradients = pipe.sampling_schedule(arguments["num_inference_steps"]), []
    settings = EditSettings(**{k: v for k, v in arguments.items() if k in EditSettings.__dataclass_fields__})
    prompts = [golden.meta["source_prompt"]], [golden.meta["target_prompt"]]
    with networks.frozen(pipe.unet, pipe.vae, pipe.clip_model):
        conditions = pipe.conditions(*prompts, arguments["negative_prompt"], settings)
        clip = pipe.clip_objective(*prompts, settings.clip_margin, True)
        lockstep = Lockstep(
            pipe.noise_predictor(),
            list(structure_layers(pipe.unet).values()),
            conditions,
            settings.guidance_scale,
            True,
        )
        for k, t in enumerate(plan.timesteps):
            j = min(k + settings.step_shift, plan.num_steps - 1)
            seen = lockstep(golden["src/latent_in"][k : k + 1], golden["tgt/x_in"][k : k + 1], t)
            x0 = schedule.predict_x0(seen.leaf, seen.target_noise, plan.alpha(t))
            terms = edit_terms(seen, x0, None, j, plan.num_steps, settings, clip)
            gradients.append(latent_gradient(terms.loss, seen.leaf, k)[0])
            lockstep.memory.step_done()
    both = golden["tgt/grad_both_halves"].sum(1)
    yield compare("sum of grad_both_halves", torch.stack(gradients), both, FLOAT64_TOLERANCE, relative=True)


CASES: dict[str, CaseFunction] = {
    "units.safetensors": check_units,
    "schedulers.safetensors": check_schedulers,
    "target_prompt.json": check_target_prompts,
    "inversion_*.safetensors": check_inversion,
    "edit_*.safetensors": check_edit,
}
