"""Golden cases of the parts of losses and of the metrics: VGG-19, contextual loss, SWD, FID, LPIPS, style."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor

from midms.losses.contextual import contextual_loss
from midms.losses.matching import domain_loss, unit_channels
from midms.losses.perceptual import VGG19Features, caffe_preprocess
from midms.metrics import style, swd
from midms.metrics.diversity import LPIPS
from midms.metrics.fidelity import Moments, feature_moments, frechet_distance, frechet_distance_of_features
from midms.metrics.truth import to_unit_range
from parity.cases import CaseFunction, Check, compare, load_case

# our names of VGG-19's layers -> the goldens'
_GOLDEN_LAYERS = {f"relu{k}_2": f"r{k}2" for k in range(1, 6)}


def caffe_vgg19(state: dict[str, Tensor]) -> VGG19Features:
    """VGG-19 with Caffe's preprocessing and the given weights."""
    network = VGG19Features("random")
    network.load_state_dict(state)
    network.weights = "caffe"
    return network


def contextual_checks(path: Path) -> list[Check]:
    """`contextual_loss`: values and gradients, also with another bandwidth and without centring."""
    case = load_case(path)
    got: dict[str, Tensor] = {}
    for k in range(len(case.meta["config"]["cases"])):
        x, y = case.inputs[f"{k}/x"].requires_grad_(), case.inputs[f"{k}/y"]
        loss = contextual_loss(x, y)
        got[f"{k}/loss"] = loss[None]
        got[f"{k}/grad_x"] = torch.autograd.grad(loss, x)[0] if loss.requires_grad else torch.zeros_like(x)
        got[f"{k}/loss_h0.5"] = contextual_loss(x, y, bandwidth=0.5)[None]
        got[f"{k}/loss_nocentre"] = contextual_loss(x, y, centre=False)[None]
    return case.checks(got)


def domain_checks(path: Path) -> list[Check]:
    """`domain_loss`: both released terms and their gradients."""
    case = load_case(path)
    condition, source, exemplar = (case.inputs[name].requires_grad_() for name in ("cond", "src", "ref"))
    first, total = domain_loss(condition, source), domain_loss(condition, source, exemplar)
    gradients = torch.autograd.grad(total, (condition, source))
    losses = {"first": first[None], "second": (total - first)[None], "total": total[None]}
    return case.checks(losses | {"grad_cond": gradients[0], "grad_src": gradients[1]})


def small_operation_checks(path: Path) -> list[Check]:
    """`small_ops`: normalisation of features, VGG's input, images in [0, 1]."""
    case = load_case(path)
    operations: list[tuple[str, str, Callable[[Tensor], Tensor]]] = [
        ("feature_normalize", "feat", unit_channels),
        ("vgg_preprocess", "image", caffe_preprocess),
        ("vgg_preprocess_raw", "image", lambda image: caffe_preprocess(2 * image - 1)),
        ("img_denorm", "wide", to_unit_range),
    ]
    return case.checks({name: f(case.inputs[given]) for name, given, f in operations if given in case.inputs})


def vgg19_checks(path: Path) -> list[Check]:
    """`vgg19`: the maps of every layer that a loss uses."""
    case = load_case(path)
    maps = caffe_vgg19(case.weights)(case.inputs["image"])
    stride = case.meta["config"]["channel_stride"]
    return case.checks({golden: maps[name][:, ::stride] for name, golden in _GOLDEN_LAYERS.items()})


def _golden_images(name: str, recipe: dict[str, Any]) -> Tensor:
    """The uint8 images of the SWD goldens, (N, 3, S, S), drawn again; D128 is A128 averaged over 2x2 blocks."""
    if name == "D128":
        source = _golden_images("A128", recipe)
        blocks = torch.nn.functional.avg_pool2d(source.double(), 2)
        return (blocks + 0.5).floor().to(torch.uint8).repeat_interleave(2, 2).repeat_interleave(2, 3)
    settings = recipe["image_sets"][name]
    rng, count, size = RandomState(settings["seed"]), settings["n"], settings["size"]
    total = np.zeros((count, 3, size, size))
    for cell in (4, 8, 16, 32):
        coarse = rng.standard_normal((count, 3, cell, cell))
        total += coarse.repeat(size // cell, axis=2).repeat(size // cell, axis=3) * np.sqrt(4 / cell)
    total += 0.25 * rng.standard_normal(total.shape)
    images = total * settings["gain"] + np.array(settings["mean"]).reshape(1, 3, 1, 1)
    return torch.from_numpy(np.clip(np.floor(images + 0.5), 0, 255).astype(np.uint8))


def _reference_directions(rng: RandomState) -> Tensor:
    """The directions of one level as the reference draws them, in our order of a patch's components."""
    drawn = np.concatenate([rng.randn(147, 128) for _ in range(4)], axis=1)
    unit = (drawn / np.sqrt(np.square(drawn).sum(axis=0, keepdims=True))).astype(np.float32)
    return torch.from_numpy(unit).view(3, 7, 7, -1).transpose(1, 2).reshape(147, -1)


def _reference_patches(images: Tensor, rng: RandomState, batch: int = 16) -> list[Tensor]:
    """Patches of every level at the positions that the reference draws, (N * 128, 3, 7, 7) each."""
    parts: list[list[Tensor]] = []
    for block in images.split(batch):
        levels = swd.laplacian_pyramid(block.float())
        cut = []
        for level in levels:
            limits = (level.shape[3], level.shape[2])  # the reference draws x first
            drawn = [
                rng.randint(3, limit - 3, (128 * len(block), 1, 1, 1)).reshape(len(block), 128) for limit in limits
            ]
            cut.append(swd.extract_patches(level, torch.from_numpy(np.stack(drawn[::-1], axis=-1))).flatten(0, 1))
        parts.append(cut)
    return [torch.cat(level) for level in zip(*parts, strict=True)]


def _reference_run(real: Tensor, fake: Tensor, seed: int, self_comparison: bool) -> list[float]:
    """SWD of all levels and their mean with the reference's random numbers."""
    rng = RandomState(seed)
    sets = [_reference_patches(real, rng)]
    if self_comparison:
        for _ in sets[0]:
            _reference_directions(rng)
    sets.append(_reference_patches(fake, rng))
    values = []
    for a, b in zip(*sets, strict=True):
        pair = (swd.normalise_patches(a), swd.normalise_patches(b))
        values.append(swd.SCALE * swd.sliced_distance(*pair, _reference_directions(rng)))
    return [*values, float(np.mean(values))]


def swd_checks(path: Path) -> list[Check]:
    """Exact with the reference's random numbers; within 4 standard deviations with our own."""
    recipe = json.loads(path.read_text())
    images = {name: _golden_images(name, recipe) for name in recipe["image_md5"]}
    checks = []
    for name, digest in recipe["image_md5"].items():
        got = hashlib.md5(images[name].numpy().tobytes(), usedforsecurity=False).hexdigest()
        checks.append(compare(f"{name} drawn again", float(got == digest), 1.0, 0.0))
    for pair, golden in recipe["swd"].items():
        real, fake = (images[name] for name in pair.split("__vs__"))
        run = partial(_reference_run, real, fake, 0)
        checks.append(compare(f"{pair} seed 0", run(True), golden["per_seed_pggan_order"][0], 1e-3))
        checks.append(compare(f"{pair} seed 0, no self-comparison", run(False), golden["seed0_cocosnet_order"], 1e-3))
        ours = swd.sliced_wasserstein_distance(real, fake)
        checks.append(compare(f"{pair} own numbers", ours.average, golden["mean"][-1], 4 * golden["std"][-1]))
    unit = recipe["unit_sliced_wasserstein"]["value"]
    rng = RandomState(7)
    a = rng.standard_normal((300, 147)).astype(np.float32)
    b = (rng.standard_normal((300, 147)) * 1.1 + 0.05).astype(np.float32)
    pair_of_sets = [torch.from_numpy(x).view(300, 3, 7, 7).transpose(2, 3).contiguous() for x in (a, b)]
    got_unit = swd.sliced_distance(pair_of_sets[0], pair_of_sets[1], _reference_directions(RandomState(9)))
    return [*checks, compare("sliced distance of given arrays", got_unit, unit, 1e-6)]


def swd_unit_checks(path: Path) -> list[Check]:
    """`swd_unit_goldens`: pyramid, patches and sliced distance, checked separately."""
    golden = {name.removeprefix("unit/"): torch.from_numpy(array) for name, array in np.load(path).items()}
    images = golden["pyramid_input_u8"].float()
    levels = swd.laplacian_pyramid(images)
    checks = [compare(f"pyramid level {k}", level, golden[f"pyramid_level{k}"], 1e-3) for k, level in enumerate(levels)]
    centres = torch.stack([golden["desc_y"], golden["desc_x"]], dim=-1).view(len(images), -1, 2)
    patches = swd.extract_patches(levels[0], centres).flatten(0, 1)
    want = golden["descriptors_seed123_7_5"].transpose(2, 3)  # stored as (channel, column, row)
    flat = swd.normalise_patches(patches).transpose(2, 3).flatten(1)
    return [
        *checks,
        compare("patches", patches, want, 1e-3),
        compare("normalised patches", flat, golden["descriptors_finalized"], 1e-5),
    ]


def _features(count: int, width: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """Non-negative features of the FID goldens, (count, width)."""
    rng = RandomState(seed)
    mixing = rng.standard_normal((width, width)) * (np.arange(1, width + 1)[:, None] ** -0.5)
    return np.abs(rng.standard_normal((count, width)) @ mixing) * scale + shift


def _low_rank_features(count: int, width: int, seed: int, rank: int) -> np.ndarray:
    rng = RandomState(seed)
    mixing = rng.standard_normal((rank, width)) * (np.arange(1, rank + 1)[:, None] ** -0.5)
    return rng.standard_normal((count, rank)) @ mixing


_CALL = re.compile(r"(feats_lin|feats)\(([^()]*)\)")
_RAMP = re.compile(r"np\.tile\(np\.arange\((\d+)\.\)/\1,\((\d+),1\)\)")


def _fid_features(recipe: str) -> tuple[np.ndarray, np.ndarray]:
    """The two feature sets of a recipe such as "feats(1000,64,1) vs feats(1200,64,2,scale=1.1)".

    Raises:
        ValueError: a recipe of another form.
    """
    sets: list[np.ndarray] = []
    for part in recipe.split(" vs "):
        call, ramp = _CALL.search(part), _RAMP.search(part)
        if call:
            arguments = [argument.partition("=") for argument in call[2].split(",")]
            named = {name.strip(): float(value) for name, equals, value in arguments if equals}
            count, width, seed = (int(name) for name, equals, _ in arguments if not equals)
            if call[1] == "feats":
                sets.append(_features(count, width, seed, named.get("scale", 1.0), named.get("shift", 0.0)))
            else:
                sets.append(_low_rank_features(count, width, seed, int(named["rank"])))
        elif ramp:
            sets.append(np.tile(np.arange(float(ramp[1])) / int(ramp[1]), (int(ramp[2]), 1)))
        elif part.startswith("itself") and sets:
            sets.append(sets[0])
    if len(sets) != 2:
        raise ValueError(f"no two feature sets in the recipe {recipe!r}")
    return sets[0], sets[1]


def _frechet_check(name: str, got: float, golden: dict[str, Any]) -> Check:
    """Relative 1e-9 if both covariances have full rank, else 1e-6; an equal pair must be 0 up to rounding."""
    want = golden["pytorch_fid"]
    if abs(want) < 1e-6:
        return compare(name, got, 0.0, 1e-9 * golden["trace1"])
    singular = min(golden["min_eig1"], golden["min_eig2"]) < 1e-9
    return compare(name, got, want, 1e-6 if singular else 1e-9, relative=True)


def fid_checks(path: Path) -> list[Check]:
    """`fid_goldens`: FID and KID of drawn features, singular ones too."""
    checks = []
    for name, golden in json.loads(path.read_text())["cases"].items():
        features = _fid_features(golden["recipe"])
        first, second = (feature_moments(np.array_split(x, 3)) for x in features)
        checks.append(_frechet_check(name, frechet_distance(first, second), golden))
        checks.append(_frechet_check(f"{name} from features", frechet_distance_of_features(*features), golden))
    return checks


def fid_statistics_checks(path: Path) -> list[Check]:
    """Stored moments: the distance again, and our moments of the features drawn again."""
    stored = np.load(path)
    goldens = json.loads(path.with_name("fid_goldens.json").read_text())["cases"]
    checks = []
    for name in sorted({key.partition("/")[0] for key in stored.files}):
        first, second = (Moments(stored[f"{name}/mu{k}"], stored[f"{name}/sigma{k}"]) for k in (1, 2))
        checks.append(_frechet_check(f"{name} from its moments", frechet_distance(first, second), goldens[name]))
        ours = feature_moments(np.array_split(_fid_features(goldens[name]["recipe"])[0], 5))
        checks.append(compare(f"{name} mean", ours.mean, first.mean, 1e-10))
        checks.append(compare(f"{name} covariance", ours.covariance, first.covariance, 1e-10))
    return checks


def lpips_checks(path: Path) -> list[Check]:
    """`lpips_goldens`: distances with drawn backbones."""
    golden = json.loads(path.read_text())
    rng = RandomState(91)
    x = rng.uniform(-1, 1, (2, 3, 64, 64))
    y = np.clip(x + 0.3 * rng.standard_normal(x.shape), -1, 1)
    images = [torch.from_numpy(array.astype(np.float32)) for array in (x, y)]
    checks = []
    for backbone in ("alex", "vgg"):
        metric, weights = LPIPS(backbone, pretrained=False), RandomState(90)
        parameters = dict(metric.metric.net.named_parameters())
        for name in golden[backbone]["backbone_param_order"]:
            parameters[name].data = _drawn(weights, parameters[name])
        heads = [head.model[-1].weight for head in metric.metric.lins]
        checks.append(
            compare(f"{backbone} heads", [h.sum() for h in heads], golden[backbone]["head_weights_sum"], 1e-4)
        )
        checks.append(compare(f"{backbone} distance", metric(*images), golden[backbone]["value"], 1e-6))
        for head in heads:
            head.data.fill_(1 / head.shape[1])
        uniform = golden[backbone]["value_with_uniform_heads_1_over_C"]
        checks.append(compare(f"{backbone} distance, uniform heads", metric(*images), uniform, 1e-6))
    return checks


def _drawn(rng: RandomState, like: Tensor) -> Tensor:
    """Weights N(0, 2 / fan in), biases N(0, 0.01^2), float32, in the form of `like`."""
    scale = np.sqrt(2 / np.prod(like.shape[1:])) if like.dim() > 1 else 0.01
    return torch.from_numpy((rng.standard_normal(tuple(like.shape)) * scale).astype(np.float32))


_STYLE_KEYS = {
    "flatten_cos": style.flat_cosine,
    "per_position_cos_mean": style.position_cosine,
    "channel_mean_cos_(UNITE_color)": style.channel_mean_cosine,
    "channel_var_cos_(UNITE_texture)": style.channel_variance_cosine,
    "gram_cos": style.gram_cosine,
}


def _style_maps(layer: str, stored: Any) -> tuple[Tensor, Tensor]:
    """The pair of random maps (1, C, H, W) of a layer, stored or drawn again."""
    if f"{layer}/gen" in stored.files:
        first, second = (torch.from_numpy(stored[f"{layer}/{name}"])[None] for name in ("gen", "ref"))
        return first, second
    seed, channels, size = {"relu1_2": (3256, 8, 256), "relu2_2": (3128, 16, 128)}[layer]
    rng = RandomState(seed)

    def draw() -> np.ndarray:
        noise = rng.standard_normal((channels, size, size))
        return np.maximum(noise + 0.3 * rng.standard_normal((channels, 1, 1)), 0).astype(np.float32)

    generated, noise = draw(), draw()
    exemplar = np.maximum(0.7 * generated + 0.5 * noise, 0).astype(np.float32)
    return torch.from_numpy(generated)[None], torch.from_numpy(exemplar)[None]


def style_checks(path: Path) -> list[Check]:
    """`style_semantic_goldens`: every kind of cosine, with and without regions."""
    golden, stored = json.loads(path.read_text()), np.load(path.with_name("style_semantic_maps.npz"))
    labels = torch.from_numpy(stored["label_256"].astype(np.int64))[None]
    checks, maps = [], {layer: _style_maps(layer, stored) for layer in golden["cases"]}
    for layer, values in golden["cases"].items():
        pair = maps[layer]
        checks += [compare(f"{layer} {key}", f(*pair)[0], values[key], 1e-5) for key, f in _STYLE_KEYS.items()]
        pooled, angle = (style.region_pooled_cosine(*pair, labels, degrees=degrees)[0] for degrees in (False, True))
        checks.append(compare(f"{layer} regions", pooled, values["region_pooled_cos_(sc_vgg_metric)"], 1e-5))
        angle_want = values["region_pooled_angle_deg_(sc_vgg_metric)"]
        checks.append(compare(f"{layer} regions, degrees", angle, angle_want, 1e-5, relative=True))
    generated, truth = ({layer: pair[k] for layer, pair in maps.items()} for k in (0, 1))
    mean = style.semantic_consistency(generated, truth, labels)[0]
    return [*checks, compare("semantic consistency", mean, golden["semantic_mean_over_relu3_4_5"], 1e-5)]


def _recipe_vgg19() -> VGG19Features:
    network, rng = VGG19Features("random"), RandomState(77)
    return caffe_vgg19({name: _drawn(rng, value) for name, value in network.state_dict().items()})


def _vgg_statistics(maps: tuple[Tensor, Tensor]) -> Iterator[tuple[str, Tensor]]:
    x, y = maps
    yield "x_mean", x.mean()
    yield "x_std", x.std()
    yield "y_mean", y.mean()
    yield "flatten_cos", style.flat_cosine(x, y)[0]
    yield "per_position_cos_mean", style.position_cosine(x, y)[0]


def style_map_checks(path: Path) -> list[Check]:
    """VGG-19 on recipe weights: preprocessing, names of layers, statistics."""
    stored = np.load(path)
    golden = json.loads(path.with_name("style_semantic_goldens.json").read_text())["vgg_recipe"]["stats"]
    rng = RandomState(78)
    x, y = (torch.from_numpy(rng.uniform(-1, 1, (1, 3, 64, 64)).astype(np.float32)) for _ in range(2))
    network = _recipe_vgg19()
    maps = [network(image) for image in (x, y)]
    checks = [compare("preprocessed", caffe_preprocess(x)[0, :, :4, :4], stored["vgg/preprocessed_0_0_4x4"], 1e-3)]
    for layer, short in _GOLDEN_LAYERS.items():
        pair = (maps[0][layer], maps[1][layer])
        corner = pair[0][0, :8, :4, :4]
        checks.append(compare(f"{short} corner", corner, stored[f"vgg/{short}_x_first8ch_4x4"], 1e-4, relative=True))
        for key, value in _vgg_statistics(pair):
            checks.append(compare(f"{short} {key}", value, golden[short][key], 1e-4, relative=True))
    return checks


CASES: dict[str, CaseFunction] = {
    "contextual_loss.safetensors": contextual_checks,
    "domain_loss.safetensors": domain_checks,
    "small_ops.safetensors": small_operation_checks,
    "vgg19.safetensors": vgg19_checks,
    "swd_goldens.json": swd_checks,
    "swd_unit_goldens.npz": swd_unit_checks,
    "fid_goldens.json": fid_checks,
    "fid_stats.npz": fid_statistics_checks,
    "lpips_goldens.json": lpips_checks,
    "style_semantic_goldens.json": style_checks,
    "style_semantic_maps.npz": style_map_checks,
}
