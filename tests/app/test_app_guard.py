"""Which requests reach the page: its own hosts, its own origin, what it needs, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from coroutines import run

from midms.app.guard import Guard, HostRules, is_loopback


def ask(
    guard: Guard, path: str = "/", method: str = "GET", host: str | None = "127.0.0.1:7860", origin: str | None = None,
    kind: str = "http",
) -> Any:  # fmt: skip
    """Status of the answer; 200 stands for "the app was asked"."""
    sent: list[dict[str, Any]] = []
    headers = [(name, value.encode()) for name, value in ((b"host", host), (b"origin", origin)) if value is not None]

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": kind, "method": method, "path": path, "headers": headers}
    run(guard(scope, None, send))
    return sent[0].get("status", sent[0]["type"])


def guard(host: str = "127.0.0.1", *allowed: str, prefix: str = "") -> Guard:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    return Guard(app, HostRules(host, allowed), prefix)


@pytest.mark.parametrize(("host", "status"), [
    ("127.0.0.1:7860", 200), ("localhost", 200), ("LOCALHOST:1", 200), ("[::1]:7860", 200), ("evil.example", 403),
    ("evil.example:7860", 403), ("localhost.evil.example", 403), ("10.1.2.3", 403), ("", 403), ("[", 403), (None, 403),
])  # fmt: skip
def test_a_page_of_this_machine_answers_to_its_names(host: str | None, status: int) -> None:
    assert ask(guard(), host=host) == status


@pytest.mark.parametrize(("host", "status"), [
    ("10.1.2.3:7860", 200), ("localhost", 200), ("midms.example", 200), ("MIDMS.example:80", 200),
    ("other.example", 403),
])  # fmt: skip
def test_a_page_for_others_answers_to_addresses_and_the_names_it_was_told(host: str, status: int) -> None:
    assert ask(guard("0.0.0.0", "midms.example"), host=host) == status


def test_every_name_can_be_allowed() -> None:
    assert ask(guard("127.0.0.1", "*"), host="any.example", origin="https://other.example") == 200


@pytest.mark.parametrize(("origin", "host", "status"), [
    ("http://127.0.0.1:7860", "127.0.0.1:7860", 200), ("http://127.0.0.1:3000", "127.0.0.1:7860", 403),
    ("http://localhost:7860", "127.0.0.1:7860", 403), ("https://evil.example", "127.0.0.1:7860", 403),
    ("null", "127.0.0.1:7860", 403), ("", "127.0.0.1:7860", 403), ("https://midms.example", "127.0.0.1:7860", 200),
    ("https://midms.example", "midms.example", 200),
])  # fmt: skip
def test_requests_from_pages_of_other_sites_are_refused(origin: str, host: str, status: int) -> None:
    assert ask(guard("127.0.0.1", "midms.example"), "/gradio_api/queue/join", "POST", host, origin) == status


@pytest.mark.parametrize("path", ["/", "/config", "/theme.css", "/assets/index-1.js", "/gradio_api/queue/data",
                                  "/gradio_api/heartbeat/a1", "/gradio_api/file=/somewhere/x.png"])  # fmt: skip
def test_what_the_page_reads_is_answered(path: str) -> None:
    assert ask(guard(), path) == 200 == ask(guard(prefix="/m"), f"/m{path}") == ask(guard(prefix="/m"), path)


@pytest.mark.parametrize(("method", "path"), [
    ("GET", "/gradio_api/info"), ("GET", "/gradio_api/openapi.json"), ("GET", "/monitoring"), ("GET", "/docs"),
    ("GET", "/openapi.json"), ("GET", "/gradio_api/proxy=http://10.0.0.1/"), ("GET", "/gradio_api/deep_link"),
    ("GET", "/gradio_api/app_id"), ("POST", "/gradio_api/run/predict"), ("POST", "/gradio_api/call/run"),
    ("POST", "/gradio_api/api/run"), ("POST", "/gradio_api/call/v2/run"), ("POST", "/gradio_api/vibe-edit"),
    ("POST", "/login"), ("POST", "/"), ("PUT", "/gradio_api/upload"), ("DELETE", "/gradio_api/file=/somewhere/x"),
    ("GET", "//evil"), ("POST", "/gradio_api/queue/join/../../call/run"),
])  # fmt: skip
def test_what_the_page_does_not_need_is_not_there(method: str, path: str) -> None:
    assert ask(guard(), path, method) == 404


def test_other_protocols_are_closed() -> None:
    assert ask(guard(), kind="websocket") == "websocket.close"


def test_which_addresses_reach_this_machine_alone() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.1", "name")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
