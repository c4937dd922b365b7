"""Access control: foreign hosts and origins are refused, and only paths that the page needs are served."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

#: Paths that the page requests, below a proxy's prefix. Gradio's other paths are not public.
PAGE_READS = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/pwa_icon(/\w+)?|/(assets|static|svelte)/.+"
    r"|/gradio_api/(theme\.css|startup-events|heartbeat/\w+|queue/data|upload_progress|file=.+)"
)
PAGE_WRITES = re.compile(r"/gradio_api/(queue/join|upload|cancel|reset/?|component_server/?)")


class HostRules:
    """Host names under which the page is served.

    Another site can reach this page under its own name that resolves to this machine (DNS rebinding), or send requests
    from the visitor's browser. Numeric addresses allow neither attack, so these need no list.

    Args:
        host: the address listened on.
        allowed: further names, such as a proxy's; "*" allows every name.
    """

    def __init__(self, host: str, allowed: Iterable[str] = ()) -> None:
        self.names = {name.lower() for name in allowed} | {"localhost"}
        self.everything = "*" in self.names
        self.local = is_loopback(host)
        if _address(host) is None:
            self.names.add(host.lower())

    def takes_host(self, host: str) -> bool:
        """Whether a header `Host` names this page."""
        name = _name(host)
        address = _address(name)
        if self.everything or name in self.names:
            return True
        return address is not None and (address.is_loopback or not self.local)

    def takes_origin(self, origin: str, host: str) -> bool:
        """Whether to accept a request to `host` from a page of `origin`."""
        parts = urlsplit(origin)
        if self.everything or (parts.netloc and parts.netloc.lower() == host.lower()):
            return True
        return (parts.hostname or "") in self.names - {"localhost"}


class Guard:
    """ASGI middleware: 403 for a foreign host or origin, 404 for paths that the page does not need.

    Args:
        prefix: path under which a proxy shows the page, or "".
    """

    def __init__(self, app: Any, rules: HostRules, prefix: str = "") -> None:
        self.app, self.rules, self.prefix = app, rules, prefix.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif not self._is_ours(scope["headers"]):
            await _refuse(send, 403, "this host or origin is not served here; the option --allowed-host NAME adds one")
        elif not self._is_needed(scope["method"], scope["path"]):
            await _refuse(send, 404, "not found")
        else:
            await self.app(scope, receive, send)

    def _is_ours(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        values: dict[bytes, list[str]] = {b"host": [], b"origin": []}
        for name, value in headers:
            if name.lower() in values:
                values[name.lower()].append(value.decode("latin-1"))
        hosts, origins = values[b"host"], values[b"origin"]
        if len(hosts) != 1 or not self.rules.takes_host(hosts[0]):
            return False
        return all(self.rules.takes_origin(origin, hosts[0]) for origin in origins)

    def _is_needed(self, method: str, path: str) -> bool:
        if self.prefix and (path == self.prefix or path.startswith(f"{self.prefix}/")):
            path = path[len(self.prefix) :] or "/"
        if method in ("GET", "HEAD"):
            return PAGE_READS.fullmatch(path) is not None
        return method == "OPTIONS" or (method == "POST" and PAGE_WRITES.fullmatch(path) is not None)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reachable from this machine only."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _name(host: str) -> str:
    """The name in `name`, `name:port` or `[address]:port`, in lower case."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


async def _refuse(send: Send, status: int, text: str) -> None:
    body = f"{text}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
