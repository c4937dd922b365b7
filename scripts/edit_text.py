#!/usr/bin/env python
"""Edit pictures by text with a pretrained Stable Diffusion (OIG, or OIG+ with --cycle-weight).

    python scripts/edit_text.py cat.jpg --source-prompt "a cat on a bed" --target-prompt "a dog on a bed" --output edits
    python scripts/edit_text.py photos/ --task cat2dog --captioner Salesforce/blip-image-captioning-base --output edits
    python scripts/edit_text.py --generate --source-prompt "a photo of a cat" --task cat2dog --seeds 0 1 --output edits

For every picture and seed it writes NAME_edit.png, NAME_reconstruction.png and NAME.json (prompts and settings).
Finished pictures are skipped: to resume, run the same command again. Every number has the default of docs/oig.md;
--released switches to the behaviour of the released code.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from midms.config import ConfigError
from midms.options import add_overwrite_option
from midms.programs import handle_user_errors, say, warn

if TYPE_CHECKING:
    from midms.oig.pipeline import OIGPipeline
    from midms.oig.settings import EditOptions, InversionOptions

DEFAULT_CLIP = "openai/clip-vit-base-patch32"
INVERSION_OPTIONS = ("resolution", "resize", "sample_posterior", "schedule")
EDIT_OPTIONS = (
    "guidance_scale",
    "negative_prompt",
    "clip_weight",
    "structure_weight",
    "clip_margin",
    "structure_margin",
    "cycle_weight",
    "cycle_source_weight",
    "guidance_branch",
)


class Job(NamedTuple):
    """One picture to make. `picture` is None for a generated picture."""

    name: str
    picture: Path | None
    seed: int


def build_parser() -> argparse.ArgumentParser:
    """All options; omitted options keep the pipeline's defaults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", type=Path, nargs="?", help="a picture or a folder of pictures")
    parser.add_argument("--generate", action="store_true", help="edit pictures generated from the source prompt")
    parser.add_argument("--source-prompt", help="what the pictures show (default: described by --captioner)")
    parser.add_argument("--target-prompt", help="what the edits should show")
    parser.add_argument("--task", metavar="A2B", help="instead of a target prompt: cat2dog, horse2zebra, ...")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the results")
    add_overwrite_option(parser, "finished pictures, and existing files that midms did not write")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one result per seed (default: 0)")
    networks = parser.add_argument_group("networks (a folder or a name on the hub)")
    networks.add_argument("--model", default="CompVis/stable-diffusion-v1-4", help="Stable Diffusion 1.x or 2.x")
    networks.add_argument("--clip", help=f"CLIP of the guidance (default: the model's own, else {DEFAULT_CLIP})")
    networks.add_argument("--captioner", help="BLIP, for pictures without a prompt")
    networks.add_argument("--device", help="cuda, cpu, ... (default: cuda if there is one)")
    networks.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float64"))
    networks.add_argument("--gradient-checkpointing", action="store_true", help="less memory, more time")
    networks.add_argument("--compile", action="store_true", help="torch.compile the parts that allow it")
    _add_numbers(parser.add_argument_group("method"))
    return parser


def _add_numbers(numbers: argparse._ArgumentGroup) -> None:
    """Options of inversion and edit."""
    numbers.add_argument("--released", action="store_true", help="behave as the released code, including its faults")
    numbers.add_argument("--num-inference-steps", type=int, default=50, metavar="N")
    numbers.add_argument(
        "--guidance-scale", type=float, metavar="S", help="scale of classifier-free guidance (default: 5)"
    )
    numbers.add_argument("--negative-prompt", help='default: the source prompt; "" for generated pictures')
    numbers.add_argument(
        "--clip-weight", type=float, metavar="LAMBDA1", help="lambda_1, weight of the CLIP term (default: 0.1)"
    )
    numbers.add_argument(
        "--structure-weight",
        type=float,
        metavar="LAMBDA2",
        help="lambda_2, weight of the structure term, usually 0.5 to 1.5 (default: 1)",
    )
    numbers.add_argument(
        "--clip-margin", type=float, metavar="BETA_P", help="beta_p, margin of the CLIP term (default: 0.5)"
    )
    numbers.add_argument(
        "--structure-margin", type=float, metavar="BETA_F", help="beta_f, margin of the structure term (default: 2.5)"
    )
    numbers.add_argument(
        "--cycle-weight",
        type=float,
        metavar="LAMBDA4",
        help="lambda_4, weight of the cycle; above 0: OIG+, much slower (default: 0)",
    )
    numbers.add_argument(
        "--cycle-source-weight",
        type=float,
        metavar="LAMBDA3",
        help="lambda_3, weight of the source's cycle (default: LAMBDA4 / 5)",
    )
    numbers.add_argument(
        "--guidance-branch",
        choices=("uncond", "full"),
        help="branches of the U-Net that carry gradient (default: uncond)",
    )
    numbers.add_argument("--resolution", type=int, help="side of the working square in pixels (default: the model's)")
    numbers.add_argument(
        "--resize", choices=("fit", "stretch"), help="keep the aspect ratio, or make a square (default: fit)"
    )
    numbers.add_argument(
        "--schedule",
        choices=("coherent", "released", "diffusers"),
        help="noise levels of the inversion (default: coherent)",
    )
    numbers.add_argument(
        "--sample-posterior",
        action="store_true",
        default=None,
        help="encode by a sample of the posterior, not by its mean",
    )


def check_options(options: argparse.Namespace) -> None:
    """Raise `ConfigError` for invalid combinations before any slow step."""
    if (options.target_prompt is None) == (options.task is None):
        raise ConfigError("give either --target-prompt or --task")
    if options.generate == (options.input is not None):
        raise ConfigError("give either a picture or folder, or --generate")
    if options.generate and not options.source_prompt:
        raise ConfigError("--generate needs --source-prompt")
    if not options.generate and not options.source_prompt and not options.captioner:
        raise ConfigError("give --source-prompt, or --captioner to have the pictures described")
    if len(set(options.seeds)) != len(options.seeds):
        raise ConfigError(f"--seeds: expected different seeds, got {' '.join(map(str, options.seeds))}")
    random = options.generate or options.sample_posterior or options.released
    if len(options.seeds) > 1 and not random:
        raise ConfigError("--seeds: several seeds give the same result; add --sample-posterior or --generate")


def list_jobs(options: argparse.Namespace) -> list[Job]:
    """The pictures to make, in the order of their names."""
    if options.generate:
        return [Job(f"generated_seed{seed}", None, seed) for seed in options.seeds]
    from midms.io.images import IMAGE_SUFFIXES

    source: Path = options.input
    if source.is_dir():
        found = sorted(p for p in source.iterdir() if not p.name.startswith("."))
        pictures = [p for p in found if p.suffix.lower() in IMAGE_SUFFIXES]
        others = [p.name for p in found if p not in pictures]
        if others:
            warn(f"note: {source}: folders and other files are left out: {len(others)}, first {others[0]}")
        if not pictures:
            raise ConfigError(f"{source}: no picture in this folder (looked for {' '.join(IMAGE_SUFFIXES)})")
    elif source.is_file():
        pictures = [source]
    else:
        raise ConfigError(f"{source}: no such file or folder")
    stems = [picture.stem for picture in pictures]
    names = [p.name.replace(".", "_") if stems.count(p.stem) > 1 else p.stem for p in pictures]
    several = len(options.seeds) > 1
    return [
        Job(f"{name}_seed{seed}" if several else name, picture, seed)
        for name, picture in zip(names, pictures, strict=True)
        for seed in options.seeds
    ]


def method_options(options: argparse.Namespace) -> tuple[InversionOptions, EditOptions]:
    """Arguments for inversion and edit: options given one by one override --released."""
    from midms.oig.settings import RELEASED_EDIT, RELEASED_INVERSION, EditSettings

    if options.num_inference_steps < 2:
        raise ConfigError(f"--num-inference-steps must be at least 2, got {options.num_inference_steps}")
    inversion: dict[str, Any] = {**RELEASED_INVERSION} if options.released else {}
    editing: dict[str, Any] = {**RELEASED_EDIT} if options.released else {}
    inversion |= {name: v for name in INVERSION_OPTIONS if (v := getattr(options, name)) is not None}
    editing |= {name: v for name in EDIT_OPTIONS if (v := getattr(options, name)) is not None}
    chosen = cast("InversionOptions", inversion), cast("EditOptions", editing)
    EditSettings.from_options(chosen[1])  # checks them
    return chosen


def load_pipeline(options: argparse.Namespace) -> OIGPipeline:
    """The pipeline with CLIP and, if asked for, a captioner, on its device.

    Raises:
        ConfigError: files are missing or unreadable.
    """
    import torch

    from midms.io.hub import hub_options
    from midms.oig.pipeline import OIGPipeline

    def load(option: str, name: str, reader: Any) -> Any:
        try:
            return reader.from_pretrained(name, **hub_options(name))
        except ConfigError as error:
            raise ConfigError(f"{option} {name}: {error}") from None
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:120]
            remedy = f"give a folder in Hugging Face format, or fetch one with `hf download {name}`"
            raise ConfigError(f"{option}: cannot load {name}: {remedy} ({reason})") from None

    pipeline = load("--model", options.model, OIGPipeline)
    wants_clip = options.clip or (pipeline.clip_model is None and (options.clip_weight != 0 or options.task))
    if wants_clip:
        from transformers import CLIPModel, CLIPTokenizer

        name = options.clip or DEFAULT_CLIP
        pipeline.register_modules(clip_model=load("--clip", name, CLIPModel).eval())
        pipeline.register_modules(clip_tokenizer=load("--clip", name, CLIPTokenizer))
    if options.captioner and not options.source_prompt:
        from transformers import BlipForConditionalGeneration, BlipProcessor

        pipeline.register_modules(captioner=load("--captioner", options.captioner, BlipForConditionalGeneration).eval())
        pipeline.register_modules(caption_processor=load("--captioner", options.captioner, BlipProcessor))
    if options.gradient_checkpointing:
        pipeline.enable_gradient_checkpointing()
    if options.compile:
        pipeline.compile_networks()
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return pipeline.to(device, getattr(torch, options.dtype))
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {device}: {' '.join(str(error).split())[:200]}") from None


def pending(jobs: list[Job], recipe: dict[str, Any], output: Path, overwrite: bool) -> Iterator[Job]:
    """Jobs without a finished result.

    Raises:
        ConfigError: an existing result was made with other settings.
    """
    from midms.io.files import read_json

    for job in jobs:
        record = output / f"{job.name}.json"
        pictures = [output / f"{job.name}_{name}.png" for name in ("edit", "reconstruction")]
        if overwrite or not record.is_file():
            yield job
            continue
        content = read_json(record)
        made = content.get("recipe") if isinstance(content, dict) else None
        if made != recipe | {"seed": job.seed, "picture": fingerprint(job)}:
            raise ConfigError(f"{record}: made with other settings; choose another --output, or add --overwrite")
        if not all(picture.is_file() for picture in pictures):
            yield job


def fingerprint(job: Job) -> str | None:
    """Identify the picture by its content, so that results stay valid after the folder is moved."""
    from midms.io.provenance import short_digest

    return None if job.picture is None else short_digest(job.picture)


def recipe_of(options: argparse.Namespace, inversion: InversionOptions, editing: EditOptions) -> dict[str, Any]:
    """All settings of the result, besides picture and seed."""
    plain = ("source_prompt", "target_prompt", "task", "model", "clip", "captioner", "dtype", "num_inference_steps")
    return {name: getattr(options, name) for name in plain} | {"inversion": inversion, "edit": editing}


def run_job(pipeline: OIGPipeline, job: Job, recipe: dict[str, Any], output: Path) -> str:
    """Make one picture and return the target prompt; the record is written last and so marks a finished result."""
    import numpy as np

    from midms.io.files import write_atomically
    from midms.io.images import read_rgb
    from midms.io.provenance import png_bytes
    from midms.oig.editing import edit_image

    picture = None if job.picture is None else read_rgb(job.picture)
    edit = edit_image(
        pipeline,
        picture,
        source_prompt=recipe["source_prompt"],
        target_prompt=recipe["target_prompt"],
        task=recipe["task"],
        num_inference_steps=recipe["num_inference_steps"],
        seed=job.seed,
        inversion_options=recipe["inversion"],
        edit_options=recipe["edit"],
    )
    for name, picture in (("edit", edit.image), ("reconstruction", edit.reconstruction)):
        write_atomically(output / f"{job.name}_{name}.png", png_bytes(np.asarray(picture)))
    record = {
        "recipe": recipe | {"seed": job.seed, "picture": fingerprint(job)},
        "source_prompt": edit.source_prompt,
        "target_prompt": edit.target_prompt,
        "settings": edit.settings,
        "flagged_by_safety_checker": edit.flagged,
    }
    write_atomically(output / f"{job.name}.json", json.dumps(record, indent=2) + "\n")
    return edit.target_prompt


def run(options: argparse.Namespace) -> int:
    """Run the parsed command. Returns the exit code: 1 if a picture of a folder could not be edited."""
    from midms.io.outputs import check_output_files, is_ours

    check_options(options)
    jobs = list_jobs(options)
    inversion, editing = method_options(options)
    recipe = recipe_of(options, inversion, editing)
    endings = ("_edit.png", "_reconstruction.png", ".json")
    outputs = [options.output / f"{job.name}{ending}" for job in jobs for ending in endings]
    pictures = [job.picture for job in jobs if job.picture is not None]
    # `pending` refuses JSON files that are no records of these edits
    check_output_files(outputs, pictures, options.overwrite, lambda file: file.suffix == ".json" or is_ours(file))
    todo = list(pending(jobs, recipe, options.output, options.overwrite))
    print(f"{len(jobs)} to make, {len(jobs) - len(todo)} finished before")
    if not todo:
        return 0
    pipeline = load_pipeline(options)
    options.output.mkdir(parents=True, exist_ok=True)
    failed = 0
    for number, job in enumerate(todo, 1):
        say(f"[{number}/{len(todo)}] {job.name}")
        try:
            target = run_job(pipeline, job, recipe, options.output)
        except (ValueError, RuntimeError, OSError) as error:
            message = f"{job.picture or job.name}: {' '.join(str(error).split())}"
            if len(jobs) == 1:
                raise ConfigError(message) from None
            warn(f"edit_text.py: skipped {message}")
            failed += 1
            continue
        say(f"    {target!r} -> {options.output / f'{job.name}_edit.png'}")
    return 1 if failed else 0


@handle_user_errors("edit_text.py", stopped="stopped; run the same command again to continue")
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = build_parser().parse_args(arguments)
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
