"""A visitor who leaves is no fault of the program; any other error is."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import gradio as gr
import pytest
from coroutines import run
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect

from midms.app.departed import DepartedVisitors
from midms.app.faults import FaultLog

STREAM = "/gradio_api/queue/data"


def call(path: str, error: Exception, *messages: str) -> None:
    """An app that reads the messages and then fails."""
    waiting = [{"type": message} for message in messages]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in messages:
            await receive()
        raise error

    async def receive() -> dict[str, str]:
        return waiting.pop(0)

    run(DepartedVisitors(app)({"type": "http", "path": path}, receive, None))


def test_the_second_stream_of_a_visitor_who_has_left() -> None:
    call(STREAM, KeyError("session"), "http.request", "http.disconnect")
    call(f"/proxy{STREAM}", KeyError("session"), "http.disconnect")


@pytest.mark.parametrize(("path", "error", "messages"), [
    (STREAM, KeyError("session"), ["http.request"]), (STREAM, ValueError("x"), ["http.disconnect"]),
    ("/gradio_api/upload", KeyError("x"), ["http.disconnect"]),
])  # fmt: skip
def test_other_errors_are_faults(path: str, error: Exception, messages: list[str]) -> None:
    with pytest.raises(type(error)):
        call(path, error, *messages)


def test_an_upload_that_its_visitor_breaks_off() -> None:
    call("/gradio_api/upload", ClientDisconnect(), "http.request", "http.disconnect")


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """The address of an empty page behind the middleware, and the file of its faults."""
    log = tmp_path / "app.log"
    monkeypatch.setattr(sys, "stderr", FaultLog(log))
    with gr.Blocks() as page:
        gr.Image()
    settings = {"middleware": [Middleware(DepartedVisitors)]}
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, app_kwargs=settings)
    yield url, log
    page.close()


def test_half_an_upload(served: tuple[str, Path]) -> None:
    """Gradio itself: nothing is logged. Without the middleware Gradio 6.31 logs ClientDisconnect."""
    url, log = served
    ended = threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        original = DepartedVisitors.__call__

        async def noted(self: DepartedVisitors, scope: Any, receive: Any, send: Any) -> None:
            try:
                await original(self, scope, receive, send)
            finally:
                if scope.get("path", "").endswith("/upload"):
                    ended.set()

        patch.setattr(DepartedVisitors, "__call__", noted)
        host, port = url.removeprefix("http://").strip("/").split(":")
        head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9999\r\n"
        head += "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        with socket.create_connection((host, int(port)), timeout=30) as visitor:
            visitor.sendall(head.encode())
        assert ended.wait(60)
    with urlopen(f"{url}config"):  # a later request: faults of the earlier one have been written
        pass
    assert not log.exists() or log.read_text() == ""


def test_two_streams_of_one_visitor_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradio itself: nothing is logged. Without the middleware Gradio 6.31 logs KeyError: 'visitor'."""
    log = tmp_path / "app.log"
    monkeypatch.setattr(sys, "stderr", FaultLog(log))
    ready, goes_on = threading.Event(), threading.Event()

    def work() -> str:
        ready.set()
        goes_on.wait(30)
        return "done"

    with gr.Blocks() as page:
        gr.Button().click(work, None, gr.Textbox())
    settings = {"middleware": [Middleware(DepartedVisitors)]}
    _, url, _ = page.queue().launch(prevent_thread_lock=True, quiet=True, app_kwargs=settings)
    try:
        body = json.dumps({"data": [], "fn_index": 0, "session_hash": "visitor"}).encode()
        urlopen(Request(f"{url}gradio_api/queue/join", body, {"Content-Type": "application/json"})).close()
        assert ready.wait(30)
        streams = [_open_stream(url) for _ in range(2)]
        for stream in streams:
            stream.close()
        end = time.monotonic() + 60
        pending = page._queue.pending_messages_per_session
        while "visitor" in pending and time.monotonic() < end:
            time.sleep(0.1)
        assert "visitor" not in pending
    finally:
        goes_on.set()
        page.close()
    text = log.read_text() if log.exists() else ""
    assert "Traceback" not in text, text


def _open_stream(url: str) -> socket.socket:
    """An event stream of which the answer has begun."""
    host, port = url.removeprefix("http://").strip("/").split(":")
    stream = socket.create_connection((host, int(port)), timeout=30)
    stream.sendall(f"GET {STREAM}?session_hash=visitor HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert stream.recv(12) == b"HTTP/1.1 200"
    return stream
