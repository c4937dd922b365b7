"""A hub that cannot be reached is noticed at once, through proxies too."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from midms.io import hub
from midms.io.hub import hub_options, reachable


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (
        "HF_HUB_OFFLINE",
        "HF_ENDPOINT",
        "https_proxy",
        "HTTPS_PROXY",
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    reachable.cache_clear()
    yield
    reachable.cache_clear()


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server on this machine that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_an_open_hub_is_asked(monkeypatch: pytest.MonkeyPatch, port: int, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    assert hub_options("owner/model") == {}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    reachable.cache_clear()
    assert hub_options("owner/model") == {"local_files_only": True} and hub_options(tmp_path) == {}


def test_a_closed_hub_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    connect = socket.create_connection
    monkeypatch.setattr(hub.socket, "create_connection", lambda *a, **k: calls.append(a) or connect(*a, **k))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    assert hub_options("owner/model") == hub_options("owner/other") == {"local_files_only": True}
    assert len(calls) == 1


def test_a_proxy_stands_for_the_hub(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    assert not reachable()
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
    reachable.cache_clear()
    assert reachable()


@pytest.mark.parametrize("address", ["https://[broken", "http://127.0.0.1:99999", "nonsense", "http://"])
def test_an_address_that_is_none_is_not_reached(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert not reachable()
