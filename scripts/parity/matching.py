"""Golden cases of the matching (`corr_*`) and of the diffusion arithmetic (`ddim_*`)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from midms.diffusion.interleave import Rewarp, interleave, refine
from midms.diffusion.schedule import Schedule, add_noise, ddim_tables, ddim_timesteps, linear_schedule
from midms.diffusion.settings import InterleaveSettings, loop_times
from midms.matching.confidence import cycle_consistency_mask, self_composition_error
from midms.matching.correspondence import coordinate_grid, correlation, match, normalize_features, soft_warp
from parity.cases import Case, CaseFunction, Check, compare, load_case

# A float32 cosine is off by about 1e-7 however it is summed, a logit at tau = 0.005 so by 2e-5, a weight by as much.
# The files' own tolerances hold for the release's order of summation alone.
LOGIT_ROUNDING = 4e-5


def check_correlation(path: Path) -> list[Check]:
    """Correlation of tiny and zero features: the released epsilon and clamp."""
    case = load_case(path)
    return [case.check("corr", correlation(case.inputs["query"], case.inputs["support"], clamp=True, eps=1e-5))]


def check_warp(path: Path) -> list[Check]:
    """The dense released arithmetic, and `match` in both backends, against one released matching."""
    case = load_case(path)
    inputs, temperature = case.inputs, case.meta["config"]["temperature"]
    query, key = normalize_features(inputs["query"]), normalize_features(inputs["support"])
    matrix = correlation(query, key, clamp=True, eps=1e-5)  # (B, H, W, H, W)
    warped = soft_warp(inputs["latent"], matrix, temperature)
    checks = [
        case.check("query_unit", query),
        case.check("corr", matrix),
        case.check("warped", warped),
        case.check("warped_seg", soft_warp(inputs["seg"], matrix, temperature)),
        case.check("cycle", soft_warp(warped, matrix.permute(0, 3, 4, 1, 2), temperature)),
    ]
    for backend in ("dense", "streaming"):
        checks += _match_checks(case, temperature, backend)
    return checks


def _match_checks(case: Case, temperature: float, backend: str) -> list[Check]:
    values = torch.cat([case.inputs["latent"], case.inputs["seg"]], dim=1)
    temperature = (
        temperature * (1.0 + 1e-5) ** 2
    )  # the release's epsilon in the norms of unit vectors, as a temperature
    matched = match(
        case.inputs["query"],
        case.inputs["support"],
        values,
        temperature,
        cycle=True,
        backward=True,
        cycle_channels=3,
        backend=backend,  # type: ignore[arg-type]
    )
    assert isinstance(matched.forward_map, Tensor) and isinstance(matched.backward_map, Tensor)
    assert isinstance(matched.cycle, Tensor)
    height, width = matched.forward_map.shape[2:]
    grid = coordinate_grid(height, width)  # (2, H, W)
    threshold = case.meta["config"]["threshold"]
    error = self_composition_error(matched.forward_map)  # (B, 1, H, W)
    got = {
        "warped": matched.warp[:, :3],
        "warped_seg": matched.warp[:, 3:],
        "cycle": matched.cycle,
        "map_trg": matched.forward_map.permute(0, 2, 3, 1),
        "map_src": matched.backward_map.permute(0, 2, 3, 1),
        "flow_trg": (matched.forward_map - grid).permute(0, 2, 3, 1),
        "flow_src": (matched.backward_map - grid).permute(0, 2, 3, 1),
        "fb_ts": error[:, 0],
        "fb_st": self_composition_error(matched.backward_map)[:, 0],
        "mask_raw": (error < threshold).float(),
        "mask": cycle_consistency_mask(matched.forward_map, None, threshold, "released"),
    }
    return [
        compare(f"{name} ({backend})", value, case.outputs[name], max(case.tolerance(name), LOGIT_ROUNDING))
        for name, value in got.items()
    ]


def check_tables(path: Path) -> list[Check]:
    """Betas, alphas and the DDIM tables for every number of steps in the file."""
    case = load_case(path)
    schedule = _schedule(case)
    checks = [case.check("betas", schedule.betas), case.check("alphas_cumprod", schedule.alphas_cumprod)]
    for steps in sorted({int(name[1:].split("/")[0]) for name in case.outputs if "/" in name}):
        times = ddim_timesteps(schedule.num_train_timesteps, steps, "released")
        tables, noisy = ddim_tables(schedule, times), ddim_tables(schedule, times, eta=1.0)
        got = {
            "timesteps": tables.timesteps,
            "alphas": tables.alphas,
            "alphas_prev": tables.alphas_prev,
            "sqrt_one_minus_alphas": (1.0 - tables.alphas).sqrt(),
            "sigmas_eta0": tables.sigmas,
            "sigmas_eta1": noisy.sigmas,
        }
        checks += [case.check(f"T{steps}/{name}", value) for name, value in got.items()]
    return checks


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
    for name in case.outputs:
        kind, index = name.rsplit("_", 1)
        if kind == "pred_x0":
            checks.append(case.check(name, loop.predictions[int(index)]))
        else:
            checks.append(case.check(name, _step_part(kind, int(index), case, settings, schedule, loop.epsilons)))
    return checks


def _step_part(
    kind: str, call: int, case: Case, settings: InterleaveSettings, schedule: Schedule, epsilons: list[Tensor]
) -> Tensor:
    """What the release keeps of a call for the next one: root of the next level, direction, and both together."""
    times = ddim_timesteps(schedule.num_train_timesteps, settings.num_inference_steps, settings.timesteps)
    tables = ddim_tables(schedule, times)
    level = tables.alphas_prev[times.index(loop_times(schedule, settings).times[call])]
    if kind == "coef_sqrt_a_prev":
        return level.sqrt().expand(len(epsilons[call]))
    if kind == "dir_xt":
        return (1.0 - level).sqrt() * epsilons[call]
    return add_noise(case.outputs[f"pred_x0_{call:02d}"], epsilons[call], level)


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
    return [times, case.check("out", got)]


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
