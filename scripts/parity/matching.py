"""Golden cases of the matching (`corr_*`) and of the diffusion arithmetic (`ddim_*`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from midms.diffusion.interleave import Rewarp, interleave, refine
from midms.diffusion.schedule import Schedule, add_noise, ddim_tables, ddim_timesteps, linear_schedule
from midms.diffusion.settings import InterleaveSettings, loop_times
from midms.matching.confidence import cycle_consistency_mask, self_composition_error
from midms.matching.correspondence import Backend, coordinate_grid, correlation, match, normalize_features
from parity.cases import Case, CaseFunction, Check, compare, load_case
from parity.dense_matching import DenseMatching

# In any order of summation a float32 cosine has an error of about 1e-7, so a logit at tau = 0.005 has 2e-5, and a
# weight as much. The files' own tolerances hold only for the release's order of summation.
LOGIT_ROUNDING = 4e-5
BACKENDS: tuple[Backend, ...] = ("dense", "streaming")


def check_correlation(path: Path) -> list[Check]:
    """Correlation of tiny and zero features: the released epsilon and clamp."""
    case = load_case(path)
    return case.checks({"corr": correlation(case.inputs["query"], case.inputs["support"], clamp=True, eps=1e-5)})


def check_warp(path: Path) -> list[Check]:
    """The dense released arithmetic, and `match` in both backends, against one released matching."""
    case = load_case(path)
    inputs, temperature = case.inputs, case.meta["config"]["temperature"]
    matching = DenseMatching.of(inputs["query"], inputs["support"], temperature)
    warped = matching.warp(inputs["latent"])
    got = {
        "query_unit": normalize_features(inputs["query"]),
        "corr": matching.matrix,
        "warped": warped,
        "warped_seg": matching.warp(inputs["seg"]),
        "cycle": matching.warp_back(warped),
    }
    maps = _map_outputs(*matching.maps(), case.meta["config"]["threshold"])
    case.require_known(got | maps)
    checks = [case.check(name, value) for name, value in got.items() if name in case.outputs]
    checks += _rounded_checks(case, maps, "released")
    for backend in BACKENDS:
        checks += _match_checks(case, temperature, backend)
    return checks


def _match_checks(case: Case, temperature: float, backend: Backend) -> list[Check]:
    # the release's epsilon in the norms of unit vectors acts as a factor of the temperature
    matched = match(
        case.inputs["query"],
        case.inputs["support"],
        torch.cat([case.inputs["latent"], case.inputs["seg"]], dim=1),
        temperature * (1.0 + 1e-5) ** 2,
        cycle=True,
        backward=True,
        cycle_channels=3,
        backend=backend,
    )
    got = {"warped": matched.warp[:, :3], "warped_seg": matched.warp[:, 3:], "cycle": matched.cycles[0]}
    maps = matched.forward_maps[0], matched.backward_maps[0]
    return _rounded_checks(case, got | _map_outputs(*maps, case.meta["config"]["threshold"]), backend)


def _map_outputs(forward_map: Tensor, backward_map: Tensor, threshold: float) -> dict[str, Tensor]:
    """Released outputs that follow from the expected coordinates (B, 2, H, W) of both directions, by golden name."""
    grid = coordinate_grid(forward_map.shape[2], forward_map.shape[3])  # (2, H, W)
    error = self_composition_error(forward_map)  # (B, 1, H, W)
    return {
        "map_trg": forward_map.permute(0, 2, 3, 1),
        "map_src": backward_map.permute(0, 2, 3, 1),
        "flow_trg": (forward_map - grid).permute(0, 2, 3, 1),
        "flow_src": (backward_map - grid).permute(0, 2, 3, 1),
        "fb_ts": error[:, 0],
        "fb_st": self_composition_error(backward_map)[:, 0],
        "mask_raw": (error < threshold).float(),
        "mask": cycle_consistency_mask(forward_map, None, threshold, "released"),
    }


def _rounded_checks(case: Case, got: Mapping[str, Tensor], source: str) -> list[Check]:
    """Compare the stored outputs, with tolerances for another order of summation."""
    return [
        compare(f"{name} ({source})", value, case.outputs[name], max(case.tolerance(name), LOGIT_ROUNDING))
        for name, value in got.items()
        if name in case.outputs
    ]


def check_tables(path: Path) -> list[Check]:
    """Betas, alphas and the DDIM tables for every number of steps in the file."""
    case = load_case(path)
    schedule = _schedule(case)
    got = {"betas": schedule.betas, "alphas_cumprod": schedule.alphas_cumprod}
    for steps in sorted({int(found[1]) for name in case.outputs if (found := re.match(r"T(\d+)/", name))}):
        times = ddim_timesteps(schedule.num_train_timesteps, steps, "released")
        tables, noisy = ddim_tables(schedule, times), ddim_tables(schedule, times, eta=1.0)
        rows = {
            "timesteps": torch.as_tensor(tables.timesteps),
            "alphas": tables.alphas,
            "alphas_prev": tables.alphas_prev,
            "sqrt_one_minus_alphas": (1.0 - tables.alphas).sqrt(),
            "sigmas_eta0": tables.sigmas,
            "sigmas_eta1": noisy.sigmas,
        }
        got |= {f"T{steps}/{name}": value for name, value in rows.items()}
    return case.checks(got)


def check_chain(path: Path) -> list[Check]:
    """The interleaved loop with an analytic network and a stand-in for the re-warp."""
    case = load_case(path)
    config, schedule = case.meta["config"], _schedule(case)
    settings = InterleaveSettings.released().replace(
        num_inference_steps=config["S"], num_interleaved_steps=config["N"], mask_form="none"
    )
    tau = loop_times(schedule, settings)
    unet_times = [row[2] for row in config["table_hijack_prevT_T_index"]]
    checks = [
        compare("U-Net times", torch.tensor(tau.times), torch.tensor(unet_times), 0.0),
        compare("start time", tau.start_time, config["table_hijack_prevT_T_index"][0][1], 0.0),
    ]
    half = torch.full_like(case.inputs["x0"][:, :1], 0.5)
    loop = interleave(
        _analytic_eps,
        case.inputs["x0"],
        lambda _: Rewarp(case.inputs["swap"], half),
        schedule,
        settings,
        case.inputs["noise"],
    )
    got: dict[str, Tensor] = {}
    for call, (prediction, step) in enumerate(zip(loop.predictions, loop.steps, strict=True)):
        stored = case.outputs.get(f"pred_x0_{call:02d}", prediction)
        parts = _step_parts(stored, step.epsilon, tau.times[call], settings, schedule)
        got |= {f"{name}_{call:02d}": value for name, value in ({"pred_x0": prediction} | parts).items()}
    return checks + case.checks(got)


def _step_parts(
    prediction: Tensor, epsilon: Tensor, time: int, settings: InterleaveSettings, schedule: Schedule
) -> dict[str, Tensor]:
    """State of the release after the call at `time`: root of the next level, direction, and both together."""
    times = ddim_timesteps(schedule.num_train_timesteps, settings.num_inference_steps, settings.timesteps)
    level = ddim_tables(schedule, times).alphas_prev[times.index(time)]
    return {
        "coef_sqrt_a_prev": level.sqrt().expand(len(epsilon)),
        "dir_xt": (1.0 - level).sqrt() * epsilon,
        "x_prev": add_noise(prediction, epsilon, level),
    }


def check_refinement(path: Path) -> list[Check]:
    """The refinement with an analytic network and explicit noise."""
    case = load_case(path)
    config = case.meta["config"]
    settings = InterleaveSettings.released().replace(
        refine_num_inference_steps=config["S"],
        refine_steps=config["S"] - config["hijack_step"],
        refine_eta=config["eta"],
    )
    unet_times: list[int] = []

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        unet_times.append(int(t[0]))
        return _analytic_eps(x, t)

    noises = case.inputs["noise_start"], case.inputs["noise_steps"]
    got = refine(denoiser, case.inputs["x0"], _schedule(case), settings, *noises)
    times = compare("U-Net times", torch.tensor(unet_times), torch.tensor(config["timesteps_run"]), 0.0)
    return [times, *case.checks({"out": got})]


def _schedule(case: Case) -> Schedule:
    return linear_schedule(start=case.meta["config"]["linear_start"], end=case.meta["config"]["linear_end"])


def _analytic_eps(x: Tensor, t: Tensor) -> Tensor:
    """The stand-in network of the `ddim_*` files."""
    return 0.5 * torch.tanh(x) + 0.0005 * t[:, None, None, None].float() * torch.cos(x)


CASES: dict[str, CaseFunction] = {
    "corr_eps_clamp.safetensors": check_correlation,
    "corr_warp_*.safetensors": check_warp,
    "ddim_tables_*.safetensors": check_tables,
    "ddim_chain_*.safetensors": check_chain,
    "ddim_refine_*.safetensors": check_refinement,
}
