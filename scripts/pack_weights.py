#!/usr/bin/env python
"""Write trained weights as they are shipped, or make a first stage ready for latent diffusion.

python scripts/pack_weights.py runs/demo/weights midms/weights/demo                 # half precision
python scripts/pack_weights.py runs/demo128_faces_ldm/weights runs/demo128_faces_start_of_loop --dtype float32 \\
    --first-stage runs/demo128_faces_decoder/weights                                # the same latents, another decoder
python scripts/pack_weights.py runs/demo128_churches_first_stage/weights runs/churches_first_stage_unit \\
    --standardise configs/first_stage/demo128_churches.yaml                         # latents of mean 0, unit covariance
python scripts/pack_weights.py demo runs/demo_8_calls --settings num_inference_steps=32 num_interleaved_steps=8
python scripts/pack_weights.py runs/demo128_faces_colours/weights runs/between --interpolate-encoders demo 0.2

The third command measures mean and covariance of the latent channels over training images and folds them into the
1x1 convolutions around the latent. Reconstructions do not change, but stages 2 and 3 see latents of unit covariance and
need no scale factor. A KL first stage needs this step before stage 2. VQ training includes it.

The last command takes each weight of the encoders from the line between two trainings, one of which went on from the
other (weight interpolation, Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midms.programs import handle_user_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="folder of weights")
    parser.add_argument("target", help="folder to write")
    parser.add_argument("--dtype", choices=["float16", "bfloat16", "float32"], help="default: float16")
    parser.add_argument("--without-refiner", action="store_true", help="leave out the denoiser before "
                        "fine-tuning, which refinement and a new training use; they take the other one")  # fmt: skip
    parser.add_argument("--only", nargs="+", metavar="PART", help="parts to write, such as the encoders alone, for a "
                        "training that starts from them (default: a whole pipeline)")  # fmt: skip
    parser.add_argument("--first-stage", metavar="FOLDER", help="weights whose first stage takes the place of the "
                        "source's; its latents must be the same (decoder_only)")  # fmt: skip
    parser.add_argument("--interpolate-encoders", nargs=2, metavar=("FOLDER", "SHARE"), help="encoders between the "
                        "source's and those in FOLDER, where one training went on from the other: (1 - SHARE) of the "
                        "source's and SHARE, from 0 to 1, of the others'")  # fmt: skip
    parser.add_argument("--settings", nargs="+", metavar="KEY=VALUE", default=[], help="settings of the weights that "
                        "take the place of the source's, keys as in a config's `interleave`")  # fmt: skip
    parser.add_argument("--temperature", type=float, metavar="TAU", help="temperature of the matching (Eq. 6) in place "
                        "of the source's; a lower one averages fewer positions and gives sharper warps")  # fmt: skip
    parser.add_argument("--standardise", metavar="CONFIG", help="training config whose data.params.train is measured")
    parser.add_argument(
        "--images", type=int, default=512, help="training images to measure the latents on (default: 512)"
    )
    options = parser.parse_args(arguments)
    if options.images < 1:
        parser.error(f"--images: got {options.images}, expected 1 or more")
    if options.standardise and options.without_refiner:
        parser.error("--without-refiner: a first stage alone has no refiner")
    if options.temperature is not None and not 0 < options.temperature < math.inf:
        parser.error(f"--temperature: got {options.temperature}, expected a number above 0")
    if options.interpolate_encoders:
        options.interpolate_encoders[1] = share_of(options.interpolate_encoders[1], parser)
    if options.standardise and (options.settings or options.interpolate_encoders or options.temperature is not None):
        parser.error("--settings, --temperature, --interpolate-encoders: a first stage alone has none")
    if options.only and options.without_refiner:
        parser.error("--only: names the parts itself; leave --without-refiner out")
    if options.standardise and (options.only or options.first_stage):
        parser.error("--standardise: for a first stage alone, without --only and --first-stage")
    if options.standardise and options.dtype:
        parser.error("--dtype: a standardised first stage keeps its precision, for it is trained on")
    return options


def share_of(word: str, parser: argparse.ArgumentParser) -> float:
    """The number from 0 to 1 in `word`; ends the program on anything else."""
    try:
        share = float(word)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        parser.error(f"--interpolate-encoders: got the share {word!r}, expected a number from 0 to 1")
    return share


def pack(options: argparse.Namespace) -> Path:
    """Components of a folder in half precision, with the first stage of another folder where that is asked for."""
    import torch

    from midms.checkpoints.folder import cast_floats, save_states
    from midms.checkpoints.loading import open_weights
    from midms.config import ConfigError

    loaded = open_weights(options.source)
    missing = [name for name in options.only or [] if name not in loaded.states]
    if missing:
        raise ConfigError(f"--only {' '.join(missing)}: {options.source} holds {', '.join(loaded.states)}")
    states, configs = dict(loaded.states), dict(loaded.configs)
    if options.first_stage:
        states["first_stage"], configs["first_stage"] = other_decoder(options, states, configs)
    facts: dict[str, Any] = {}
    if options.interpolate_encoders:
        states["encoders"], facts = interpolated(options, states.get("encoders", {}))
    if options.without_refiner:
        states.pop("refiner", None)
    dtype = getattr(torch, options.dtype or "float16")
    kept = {
        name: {key: cast_floats(value, dtype) for key, value in state.items()}
        for name, state in states.items()
        if not options.only or name in options.only
    }
    info = loaded.info | facts | changed_settings(loaded.info, options.settings)
    if options.temperature is not None:
        info |= {"temperature": options.temperature}
    return save_states(options.target, kept, {name: configs[name] for name in kept}, info)


def changed_settings(info: Mapping[str, Any], words: list[str]) -> dict[str, Any]:
    """The record's settings with `words` (KEY=VALUE) in place of theirs; nothing without words.

    Raises:
        ConfigError: an unknown key or a value that it does not allow.
    """
    from dataclasses import asdict

    from midms.checkpoints.schema import SETTINGS
    from midms.config import from_override
    from midms.schema import check_keywords

    if not words:
        return {}
    reader = SETTINGS[info.get("kind", "midms")]
    values = dict(info.get("settings", {}))
    for word in words:
        values |= from_override(word)
    check_keywords(reader, values, "--settings")
    return {"settings": asdict(reader(**values))}


def interpolated(options: argparse.Namespace, own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Encoders between those of the source and those in --interpolate-encoders, and a note on them for the record.

    The stored vectors of a spectral norm (`weight_u`, `weight_v`) stay of unit length.

    Raises:
        ConfigError: a folder has no encoders, or their networks differ.
    """
    import torch
    import torch.nn.functional as F

    from midms.checkpoints.loading import open_weights
    from midms.config import ConfigError

    folder, share = options.interpolate_encoders
    loaded = open_weights(folder)
    other = loaded.states.get("encoders", {})
    shapes, others = ({key: tuple(value.shape) for key, value in state.items()} for state in (own, other))
    if not own or shapes != others:
        differing = sorted(key for key in shapes.keys() | others.keys() if shapes.get(key) != others.get(key))
        what = f"{differing[0]} has another shape or is missing" if differing else "there are none"
        raise ConfigError(
            f"--interpolate-encoders {folder}: {what}; expected the encoders of {options.source} in another training"
        )
    between = {key: torch.lerp(value.float(), other[key].float(), share) for key, value in own.items()}
    vectors = [key for key in between if key.endswith((".weight_u", ".weight_v"))]
    facts = {"encoders_interpolated": {"other": loaded.info.get("name"), "share_of_other": share}}
    return between | {key: F.normalize(between[key], dim=0) for key in vectors}, facts


def other_decoder(
    options: argparse.Namespace, states: dict[str, dict[str, Tensor]], configs: dict[str, dict[str, Any]]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State and config of the first stage in --first-stage, whose latents must be those of the source.

    Raises:
        ConfigError: a layer before the decoder differs, so that the other networks would see other latents.
    """
    from midms.checkpoints.loading import open_weights
    from midms.config import ConfigError

    other = open_weights(options.first_stage)
    own, new = states.get("first_stage", {}), other.states.get("first_stage", {})
    behind = ("decoder.", "post_quant_conv.")
    differing = sorted(
        key
        for key in own.keys() | new.keys()
        if not key.startswith(behind)
        and not (key in own and key in new and own[key].shape == new[key].shape and bool((own[key] == new[key]).all()))
    )
    if differing:
        raise ConfigError(
            f"--first-stage {options.first_stage}: {differing[0]} differs from that of {options.source}, and so do its "
            "latents, which the other networks would not fit; train it with decoder_only"
        )
    return new, other.configs["first_stage"]


def standardise(options: argparse.Namespace) -> Path:
    """A first stage alone, with latents of unit variance on the config's training images."""
    import torch

    from midms.checkpoints.folder import save_folder
    from midms.checkpoints.loading import load_first_stage, open_weights
    from midms.config import ConfigError, instantiate, load_config
    from midms.losses.latents import effective_rank

    config, loaded = load_config([options.standardise]), open_weights(options.source)
    if set(loaded.configs) != {"first_stage"}:
        raise ConfigError(
            f"{options.source} holds {', '.join(loaded.configs)}; a denoiser or encoders trained on its latents would "
            "not fit them any more, so only a first stage alone can be standardised"
        )
    stage, dataset = load_first_stage(options.source), instantiate(config.data.params.train)
    images = [dataset[index]["image"] for index in range(min(options.images, len(dataset)))]
    with torch.no_grad():
        latents = torch.cat([stage.encode(image[None]) for image in images])  # (N, C, h, w)
    rank = float(effective_rank(latents))
    mean, whitening = (values.double().mul(1e4).round().div(1e4).tolist() for values in stage.standardise(latents))
    print(f"latents of {len(images)} images: effective rank {rank:.2f} of {len(mean)}, mean {mean}; now whitened")
    facts = {"standardised": {"images": len(images), "mean": mean, "whitening": whitening}}
    return save_folder(options.target, {"first_stage": stage.model}, {"first_stage": stage.config}, loaded.info | facts)


@handle_user_errors("pack_weights.py")
def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 0 on success, 2 with one line on a user's mistake."""
    options = parse(arguments)
    from midms.config import ConfigError
    from midms.io.provenance import SHIPPED

    read = [options.source, options.first_stage, (options.interpolate_encoders or [None])[0]]
    places = [(folder / name).resolve() for name in read if name for folder in (Path(), SHIPPED)]
    if Path(options.target).resolve() in places:
        raise ConfigError(f"{options.target}: is also read, and would be overwritten; choose another name")
    path = standardise(options) if options.standardise else pack(options)
    size = sum(file.stat().st_size for file in path.iterdir())
    print(f"{path}: {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
