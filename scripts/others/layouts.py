"""Pairs in the layouts that other methods read: CoCosNet, IP-Adapter with ControlNet (diffusers), Ctrl-X.

The layouts are those of the methods' READMEs (CoCosNet and Ctrl-X) and of the data sets that they name; docs/compare.md
has the sources. A layout is written for testing, not for training.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from midms.conditions import poses
from midms.conditions.edges import PART_ORDERS
from midms.data.folder import annotation_folder
from midms.io.files import write_atomically
from midms.io.images import open_image, read_header
from midms.visualize import save_png
from others.pairs import PairSource, copy_photo, numbers_of, write_evaluation_pictures, write_manifest

_MASK_SIDE = 512  # of CelebAMask-HQ's part masks
_CELEBA_FOLDER = 2000  # masks per folder
_MAP_NAMES = {"edges": "an edge map", "keypoints": "a human pose skeleton", "segmentation": "a segmentation map"}


def write_cocosnet(source: PairSource, out: Path, prompt: str) -> str:
    """CelebAMask-HQ's, DeepFashion's or ADE20K's layout below OUT/dataroot, and the pair list below OUT/data.

    Returns:
        The command to run in a checkout of CoCosNet.
    """
    del prompt  # CoCosNet has no text
    writers = {"edges": _celeba, "keypoints": _deepfashion, "segmentation": _ade20k}
    return writers[source.condition](source, out)


def _command(name: str, mode: str, options: str, root: Path, lists: Path) -> str:
    """Copy the pair list into the checkout and test pair by pair."""
    copy = f"cp {shlex.quote(str(lists.absolute()))}/*.txt data/"
    test = f"python test.py --name {name} --dataset_mode {mode} --dataroot {shlex.quote(str(root.absolute()))}"
    return f"{copy} && {test} --gpu_ids 0 --nThreads 0 --batchSize 1 {options}"


def _write_lines(file: Path, lines: Sequence[str]) -> None:
    write_atomically(file, "".join(f"{line}\n" for line in lines))


def _celeba(source: PairSource, out: Path) -> str:
    """Photos under numbers, a binary mask per face part, val.txt and celebahq_ref_test.txt."""
    root, numbers = out / "dataroot" / "CelebAMask-HQ", numbers_of(source.used_photos())
    parts = annotation_folder(source.photos, "edges")
    without = []
    for name, number in numbers.items():
        copy_photo(source, name, root / "CelebA-HQ-img" / f"{number}.jpg")
        file = (parts / name).with_suffix(".png")
        if not file.is_file():
            without.append(name)
            continue
        labels = np.asarray(open_image(file).convert("L").resize((_MASK_SIDE, _MASK_SIDE), Image.Resampling.NEAREST))
        for index, part in enumerate(PART_ORDERS["midms"], start=1):
            if (labels == index).any():
                folder = root / "CelebAMask-HQ-mask-anno" / str(number // _CELEBA_FOLDER)
                mask = np.where(labels == index, 255, 0).astype(np.uint8)[..., None].repeat(3, axis=2)
                save_png(folder / f"{number:05d}_{part}.png", mask)
    if without:
        raise ValueError(
            f"{parts}: no face parts of {len(without)} photos, the first is {without[0]}; CoCosNet's edges need them, "
            f"make them with `prepare_data.py edges {source.photos}`"
        )
    _write_lines(root / "val.txt", [str(numbers[pair.condition]) for pair in source.pairs])
    lines = [f"{numbers[pair.condition]}.jpg,{numbers[pair.exemplar]}.jpg" for pair in source.pairs]
    _write_lines(out / "data" / "celebahq_ref_test.txt", lines)
    options = "--use_attention --maskmix --PONO --PONO_C --warp_bilinear --adaptor_kernel 4"
    return _command("celebahqedge", "celebahqedge", options, root, out / "data")


def _deepfashion(source: PairSource, out: Path) -> str:
    """Photos and candidate/subset files under numbers, val.txt and deepfashion_ref_test.txt with backslashes."""
    root, numbers = out / "dataroot" / "DeepFashion", numbers_of(source.used_photos())
    annotations = annotation_folder(source.photos, "keypoints")
    for name, number in numbers.items():
        copy_photo(source, name, root / "img" / "pairs" / f"{number:05d}.jpg")
        size = read_header(source.photos / name).size
        stem = root / "pose" / "pairs" / f"{number:05d}"
        stem.parent.mkdir(parents=True, exist_ok=True)
        poses.write_text_poses(stem, poses.read_poses((annotations / name).with_suffix(""), size))

    def listed(name: str) -> str:
        return rf"img\pairs\{numbers[name]:05d}.jpg"

    _write_lines(root / "val.txt", [listed(pair.condition) for pair in source.pairs])
    lines = [f"{listed(pair.condition)},{listed(pair.exemplar)}" for pair in source.pairs]
    _write_lines(out / "data" / "deepfashion_ref_test.txt", lines)
    options = "--use_attention --PONO --PONO_C --warp_bilinear --no_flip --warp_patch --video_like --adaptor_kernel 4"
    return _command("deepfashion", "deepfashion", options, root, out / "data")


def _ade20k(source: PairSource, out: Path) -> str:
    """Conditions in validation/, exemplars in training/, each photo beside its label map; ade20k_ref_test.txt."""
    root, lines = out / "dataroot" / "ade20k", []
    annotations = annotation_folder(source.photos, "segmentation")
    for pair in source.pairs:
        for split, name in (("validation", pair.condition), ("training", pair.exemplar)):
            file = root / split / f"{pair.number:05d}.jpg"
            copy_photo(source, name, file)
            write_atomically(file.with_suffix(".png"), (annotations / name).with_suffix(".png").read_bytes())
        lines.append(f"{pair.number:05d}.jpg,{pair.number:05d}.jpg")
    _write_lines(out / "data" / "ade20k_ref_test.txt", lines)
    options = "--use_attention --maskmix --warp_mask_losstype direct --PONO --PONO_C"
    return _command("ade20k", "ade20k", options, root, out / "data")


def _numbered_pictures(source: PairSource, out: Path) -> None:
    """conditions/00000.png and exemplars/00000.png."""
    for pair, pictures in source.pictures():
        for role, picture in (("conditions", pictures.condition), ("exemplars", pictures.exemplar)):
            save_png(out / role / f"{pair.number:05d}.png", picture)


def write_diffusers(source: PairSource, out: Path, prompt: str) -> str:
    """Numbered conditions and exemplars, and prompts.json with a prompt for each number."""
    _numbered_pictures(source, out)
    prompts = {f"{pair.number:05d}": prompt for pair in source.pairs}
    write_atomically(out / "prompts.json", json.dumps(prompts, indent=1) + "\n")
    folder = shlex.quote(str(out))
    return f"python scripts/pairs_for.py diffusers {folder} --base BASE --controlnet CONTROLNET --adapter IP_ADAPTER"


def write_ctrl_x(source: PairSource, out: Path, prompt: str) -> str:
    """Numbered structure and appearance images, and run.sh with a command for each pair."""
    _numbered_pictures(source, out)
    lines = ["# in a checkout of Ctrl-X; one run per pair, in the order of the numbers"]
    for pair in source.pairs:
        images = [
            (f"--{kind}_image", out.absolute() / role / f"{pair.number:05d}.png")
            for kind, role in (("structure", "conditions"), ("appearance", "exemplars"))
        ]
        words = [str(word) for option in images for word in option]
        words += ["--prompt", prompt, "--structure_prompt", f"{_MAP_NAMES[source.condition]} of {prompt}"]
        lines.append(f"python run_ctrlx.py {shlex.join(words)}")
    _write_lines(out / "run.sh", lines)
    return f"bash {shlex.quote(str(out.absolute() / 'run.sh'))}"


LAYOUTS: dict[str, Callable[[PairSource, Path, str], str]] = {
    "cocosnet": write_cocosnet,
    "diffusers": write_diffusers,
    "ctrl-x": write_ctrl_x,
}


def write_layout(layout: str, source: PairSource, out: Path, prompt: str) -> str:
    """Write a layout, the pictures for the evaluation, and last the record of the pairs.

    Args:
        layout: of `LAYOUTS`.
        prompt: text for methods that need one, the same for all pairs.
    Returns:
        The command that makes the outputs.
    """
    command = LAYOUTS[layout](source, out, prompt)
    write_evaluation_pictures(source, out)
    write_manifest(source, layout, out)
    return command
