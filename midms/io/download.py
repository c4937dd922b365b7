"""Download files, resume interrupted downloads, and compare the files with their SHA-256."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from midms.io.files import sha256_of

_CHUNK = 1 << 20


class DownloadError(OSError):
    """A download failed. The message is one line for the user."""


def download(address: str, file: Path, digits: str) -> Path:
    """Download a file, resuming from a partial one. An existing file is neither downloaded again nor replaced.

    Args:
        digits: the first digits of the file's SHA-256, or all.
    Raises:
        DownloadError: the address cannot be reached, the content has another SHA-256, or another file has the name.
    """
    partial = file.with_name(f"{file.name}.partial")
    if file.is_file() and sha256_of(file).startswith(digits):
        return file
    if file.exists() or file.is_symlink():
        raise DownloadError(f"{file}: exists, and its SHA-256 does not start with {digits}; move it away, or choose "
                            "another folder")  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    start = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            resumed = start > 0 and answer.status == 206
            with partial.open("ab" if resumed else "wb") as out:
                while block := answer.read(_CHUNK):
                    out.write(block)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: the partial file is complete
            raise DownloadError(f"{address}: the server answered {error.code} {error.reason}") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise DownloadError(f"{address}: not reachable ({reason}); run the same command again to resume") from error
    if not sha256_of(partial).startswith(digits):
        partial.unlink()
        raise DownloadError(f"{address}: SHA-256 does not start with {digits}; deleted, try again")
    return partial.rename(file)
