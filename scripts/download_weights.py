#!/usr/bin/env python
"""Fetch published weights that can be fetched by a program; the others are described in docs/weights.md.

    python scripts/download_weights.py --list
    python scripts/download_weights.py ldm-celebahq-256
    python scripts/download_weights.py inception --to /data/weights

Run the same command again to resume. Every file is compared with its published SHA-256 where there is one.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from midms.io.download import DownloadError, download
from midms.io.files import sha256_of
from midms.programs import handle_user_errors


@dataclass(frozen=True)
class Weights:
    """One thing to download."""

    content: str
    licence: str
    size: str
    repository: str = ""  # on the Hugging Face hub, with
    patterns: tuple[str, ...] = ()  # the files of it; or
    address: str = ""  # of a file whose name ends in the first 8 digits of its SHA-256
    afterwards: str = ""


WEIGHTS = {
    "ldm-celebahq-256": Weights(
        "latent diffusion model on CelebA-HQ (LDM-VQ-4), as a diffusers folder",
        "Apache-2.0",
        "1.3 GB",
        repository="CompVis/ldm-celebahq-256",
        patterns=("*.json", "unet/diffusion_pytorch_model.*", "vqvae/diffusion_pytorch_model.*"),
        afterwards="python scripts/convert_checkpoint.py {path} --to weights/celebahq-ldm",
    ),
    "upernet-swin-small": Weights(
        "segmentation network for church conditions (ADE20K)",
        "MIT",
        "330 MB",
        repository="openmmlab/upernet-swin-small",
        patterns=("*.json", "*.safetensors", "*.bin"),
    ),
    "vgg19": Weights(
        "VGG-19 of torchvision, for losses and metrics",
        "BSD-3-Clause (torchvision)",
        "548 MB",
        address="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
    ),
    "inception": Weights(
        "Inception network of FID and KID",
        "Apache-2.0",
        "92 MB",
        address="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    ),
}


def torch_checkpoint_folder() -> Path:
    """The folder of networks that torch downloads."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser() / "hub" / "checkpoints"


def fetch_file(address: str, folder: Path) -> Path:
    """Download one file, resuming a partial download, and check the hash digits in its name.

    Raises:
        DownloadError: the address is not reachable, or the content does not match the hash.
    """
    name = address.rsplit("/", 1)[-1]
    return download(address, folder / name, name.rsplit("-", 1)[-1].split(".")[0])


def fetch_repository(weights: Weights, folder: Path) -> Path:
    """Download files of a hub repository, resuming, and check each against the hub's SHA-256.

    Raises:
        DownloadError: the hub is not reachable, or a file differs from its hash.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        info = HfApi().model_info(weights.repository, files_metadata=True)
        snapshot_download(
            weights.repository, revision=info.sha, allow_patterns=list(weights.patterns), local_dir=str(folder)
        )
    except Exception as error:  # the hub's client raises many exception classes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DownloadError(
            f"{weights.repository}: not available from the hub ({reason[:200]}); "
            f"offline, copy the repository to {folder} by other means"
        ) from error
    for file in info.siblings or []:
        path = folder / file.rfilename
        if file.lfs is not None and path.is_file() and sha256_of(path) != file.lfs.sha256:
            path.unlink()
            raise DownloadError(f"{path}: SHA-256 differs from the hub's; deleted, run the same command again")
    return folder


@handle_user_errors("download_weights.py", stopped="stopped; run the same command again to resume")
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=sorted(WEIGHTS), help="what to download")
    parser.add_argument("--to", type=Path, metavar="DIR", help="folder (default: weights/NAME, or torch's cache)")
    parser.add_argument("--list", action="store_true", help="list names, contents, sizes and licences")
    options = parser.parse_args(arguments)
    if options.list:
        for name, weights in WEIGHTS.items():
            print(f"{name:<20} {weights.size:>7}  {weights.content} ({weights.licence})")
        return 0
    if options.name is None:
        parser.error("give a name, or --list")
    weights = WEIGHTS[options.name]
    if weights.repository:
        path = fetch_repository(weights, options.to or Path("weights") / options.name)
    else:
        path = fetch_file(weights.address, options.to or torch_checkpoint_folder())
    print(path)
    if weights.afterwards:
        print(f"next: {weights.afterwards.format(path=path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
