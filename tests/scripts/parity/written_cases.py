"""Golden cases that tests write themselves, with the reference arithmetic spelled out in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Written = tuple[dict[str, Tensor], dict[str, Any]]  # tensors by group/name, and the description
START, END, STEPS = 0.0015, 0.0195, 1000
NOISE = {"linear_start": START, "linear_end": END}


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Float64 numbers that float32 holds exactly, from N(0, 1)."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def written(inputs: dict[str, Tensor], outputs: dict[str, Tensor], **config: Any) -> Written:
    """Float32 tensors under "inputs/" and "outputs/", and the config that describes them."""
    tensors = {f"inputs/{name}": value for name, value in inputs.items()}
    tensors |= {f"outputs/{name}": value for name, value in outputs.items()}
    return {name: value.float().contiguous() for name, value in tensors.items()}, {"config": config}


def clamped_cosines(query: Tensor, key: Tensor) -> Tensor:
    """(B, C, H, W) twice -> (B, N, N): cosines with 1e-5 added to both norms, negative ones set to 0."""
    rows = [x.flatten(2) / (x.flatten(2).norm(dim=1, keepdim=True) + 1e-5) for x in (query, key)]
    return (rows[0].mT @ rows[1]).clamp(min=0)


def correlation_case() -> Written:
    """Query vectors that are tiny or zero."""
    query, support = numbers(2, 8, 3, 4), numbers(2, 8, 3, 4, seed=1)
    query[:, :, 0], query[:, :, 1] = 0.0, 1e-5 * query[:, :, 1]
    corr = clamped_cosines(query, support).view(2, 3, 4, 3, 4)
    return written({"query": query, "support": support}, {"corr": corr})


def warp_case() -> Written:
    """Matching, warp, cycle, and the expected coordinates of both directions."""
    side, temperature = 4, 0.005  # the released one, at which negative cosines have no weight, clamped or not
    query, support = numbers(1, 16, side, side), numbers(1, 16, side, side, seed=1)
    latent, seg = numbers(1, 3, side, side, seed=2), numbers(1, 5, side, side, seed=3)
    units = []
    for x in (query, support):
        centred = x - x.mean(dim=1, keepdim=True)
        units.append(centred / centred.norm(dim=1, keepdim=True))
    cosines = clamped_cosines(*units)  # (1, N, N)
    forward, backward = (cosines / temperature).softmax(dim=2), (cosines.mT / temperature).softmax(dim=2)

    def moved(values: Tensor, weights: Tensor) -> Tensor:
        return (values.flatten(2) @ weights.mT).view_as(values)

    line = torch.linspace(-1, 1, side, dtype=torch.float64)
    grid = torch.stack([line.expand(side, side), line[:, None].expand(side, side)])[None]  # x, then y
    maps = [moved(grid, weights) for weights in (forward, backward)]
    last = [x.permute(0, 2, 3, 1) for x in (*maps, maps[0] - grid, maps[1] - grid)]
    warped = moved(latent, forward)
    outputs = {"query_unit": units[0], "corr": cosines.view(1, *(side,) * 4), "warped": warped}
    outputs |= {"warped_seg": moved(seg, forward), "cycle": moved(warped, backward)}
    outputs |= dict(zip(("map_trg", "map_src", "flow_trg", "flow_src"), last, strict=True))
    inputs = {"query": query, "support": support, "latent": latent, "seg": seg}
    return written(inputs, outputs, temperature=temperature, threshold=0.5)


def noise_levels() -> tuple[Tensor, Tensor]:
    """Betas of the "linear" schedule, and the cumulative products of 1 - beta."""
    betas = torch.linspace(math.sqrt(START), math.sqrt(END), STEPS, dtype=torch.float64) ** 2
    return betas, torch.cumprod(1 - betas, dim=0)


def uniform_times(steps: int) -> list[int]:
    """The release's "uniform" times, ascending; of 16 steps there are 17."""
    return [time + 1 for time in range(0, STEPS, STEPS // steps)]


def tables_case() -> Written:
    """Tables of 10 steps, and of 16, which have 17 entries."""
    betas, levels = noise_levels()
    outputs = {"betas": betas, "alphas_cumprod": levels}
    for steps in (10, 16):
        times = uniform_times(steps)
        alphas = levels[times]
        previous = torch.cat([levels[:1], alphas[:-1]])
        sigma = ((1 - previous) / (1 - alphas) * (1 - alphas / previous)).sqrt()
        rows = {"timesteps": torch.tensor(times), "alphas": alphas, "alphas_prev": previous}
        rows |= {"sqrt_one_minus_alphas": (1 - alphas).sqrt(), "sigmas_eta0": 0 * sigma, "sigmas_eta1": sigma}
        outputs |= {f"T{steps}/{name}": value for name, value in rows.items()}
    return written({}, outputs, **NOISE)


def analytic_noise(x: Tensor, time: int) -> Tensor:
    """The stand-in for the network: 0.5 tanh(x) + 0.0005 t cos(x)."""
    return 0.5 * torch.tanh(x) + 0.0005 * time * torch.cos(x)


def clean(x: Tensor, epsilon: Tensor, level: Tensor) -> Tensor:
    """The clean latent that a noisy one and its noise imply."""
    return (x - (1 - level).sqrt() * epsilon) / level.sqrt()


def chain_case() -> Written:
    """Four one-step predictions of a chain of 16 steps; half of the second and third input is replaced."""
    levels, times = noise_levels()[1], uniform_times(16)
    x0, swap, noise = numbers(2, 3, 4, 4), numbers(2, 3, 4, 4, seed=1), numbers(2, 3, 4, 4, seed=2)
    used = times[5:0:-1]  # the start's time, and those of the four calls
    x = levels[used[0]].sqrt() * x0 + (1 - levels[used[0]]).sqrt() * noise
    outputs, epsilon = {}, noise
    for call, time in enumerate(used[1:]):
        if call:
            prediction = outputs[f"pred_x0_{call - 1:02d}"]
            entering = 0.5 * prediction + 0.5 * swap if call < 3 else prediction
            level = levels[time]
            x = level.sqrt() * entering + (1 - level).sqrt() * epsilon
        epsilon = analytic_noise(x, time)
        below = levels[times[times.index(time) - 1]]
        outputs[f"pred_x0_{call:02d}"] = clean(x, epsilon, levels[time])
        outputs[f"coef_sqrt_a_prev_{call:02d}"] = below.sqrt().expand(2)
        outputs[f"dir_xt_{call:02d}"] = (1 - below).sqrt() * epsilon
        outputs[f"x_prev_{call:02d}"] = below.sqrt() * outputs[f"pred_x0_{call:02d}"] + (1 - below).sqrt() * epsilon
    table = [[12 + call, used[call], used[call + 1], 4 - call] for call in range(4)]
    return written({"x0": x0, "swap": swap, "noise": noise}, outputs, S=16, N=4, table_hijack_prevT_T_index=table,
                   **NOISE)  # fmt: skip


def refinement_case() -> Written:
    """The last 5 of 50 DDIM steps with eta = 1; the result is the last prediction of the clean latent."""
    levels, times = noise_levels()[1], uniform_times(50)
    x0, start, steps = numbers(2, 3, 4, 4), numbers(2, 3, 4, 4, seed=1), numbers(5, 2, 3, 4, 4, seed=2)
    x = levels[times[5]].sqrt() * x0 + (1 - levels[times[5]]).sqrt() * start
    run = times[4::-1]
    for place, (time, noise) in enumerate(zip(run, steps, strict=True)):
        level, below = levels[time], levels[run[place + 1]] if place < 4 else levels[0]
        epsilon = analytic_noise(x, time)
        out = clean(x, epsilon, level)
        sigma = ((1 - below) / (1 - level) * (1 - level / below)).sqrt()
        x = below.sqrt() * out + (1 - below - sigma**2).sqrt() * epsilon + sigma * noise
    inputs = {"x0": x0, "noise_start": start, "noise_steps": steps}
    return written(inputs, {"out": out}, S=50, hijack_step=45, eta=1.0, timesteps_run=run, **NOISE)


def domain_case() -> Written:
    """Both terms on unit vectors, and the gradients of their sum; none reaches the exemplar."""
    maps = [numbers(2, 8, 3, 3, seed=seed).requires_grad_() for seed in range(3)]
    condition, source, exemplar = (x / x.norm(dim=1, keepdim=True) for x in maps)
    first = (condition - source).abs().mean()
    second = (exemplar.detach() * (condition - source)).abs().mean()
    gradients = torch.autograd.grad(first + second, maps[:2])
    outputs = {"first": first[None], "second": second[None], "total": (first + second)[None]}
    outputs |= {"grad_cond": gradients[0], "grad_src": gradients[1]}
    return written({n: x.detach() for n, x in zip(("cond", "src", "ref"), maps, strict=True)},
                   {name: value.detach() for name, value in outputs.items()})  # fmt: skip


def small_operations_case() -> Written:
    """Unit vectors, VGG's input in Caffe's form (blue first), and images in [0, 1]."""
    feat, image, wide = numbers(2, 8, 3, 4), numbers(2, 3, 5, 4, seed=1), 2 * numbers(1, 3, 4, 4, seed=2)
    mean = torch.tensor([0.40760392, 0.45795686, 0.48501961], dtype=torch.float64).view(3, 1, 1)
    outputs = {
        "feature_normalize": feat / feat.norm(dim=1, keepdim=True),
        "vgg_preprocess": 255 * ((image.flip(1) + 1) / 2 - mean),
        "vgg_preprocess_raw": 255 * (image.flip(1) - mean),
        "img_denorm": (wide.clamp(-1, 1) + 1) / 2,
    }
    return written({"feat": feat, "image": image, "wide": wide}, outputs)


#: File name -> what writes its content.
CASES: dict[str, Callable[[], Written]] = {
    "corr_eps_clamp": correlation_case,
    "corr_warp_4x4": warp_case,
    "ddim_tables_small": tables_case,
    "ddim_chain_S16_N4": chain_case,
    "ddim_refine_S50_h45": refinement_case,
    "domain_loss": domain_case,
    "small_ops": small_operations_case,
}
