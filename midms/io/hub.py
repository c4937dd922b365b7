"""Check once whether the Hugging Face hub can be reached, so that no call retries without a network."""

from __future__ import annotations

import os
import socket
import urllib.request
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_SECONDS = 3.0  # for one connection, after which the hub counts as unreachable


def hub_options(name: str | Path) -> dict[str, Any]:
    """Keywords for the `from_pretrained` of diffusers and transformers, and for `snapshot_download`.

    If `name` is no local folder and the hub cannot be reached, the call uses only cached files, and fails at once
    without them.
    """
    return {} if Path(name).exists() or reachable() else {"local_files_only": True}


@lru_cache(maxsize=1)
def reachable() -> bool:
    """Whether the hub, or the proxy before it, accepts connections. False if HF_HUB_OFFLINE is set."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    try:
        endpoint = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
        proxies = {} if urllib.request.proxy_bypass(endpoint.hostname or "") else urllib.request.getproxies()
        target = urlsplit(proxies.get(endpoint.scheme, endpoint.geturl()))
        port = target.port or (80 if target.scheme == "http" else 443)
        with socket.create_connection((target.hostname or "", port), timeout=_SECONDS):
            return True
    except (OSError, ValueError):
        return False
