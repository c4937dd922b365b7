"""Downloads resume, are checked, and fail in plain words; nothing here leaves the machine."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from programs import load_program

CONTENT = bytes(range(256)) * 20


@pytest.fixture
def program() -> ModuleType:
    return load_program("scripts/download_weights.py")


@pytest.fixture
def server() -> Iterator[SimpleNamespace]:
    """A file server that honours ranges; `.ranges` lists what was asked for."""
    ranges: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ranges.append(self.headers.get("Range"))
            start = int(ranges[-1].removeprefix("bytes=").rstrip("-")) if ranges[-1] else 0
            if "missing" in self.path:
                self.send_error(404)
                return
            self.send_response(206 if start else 200)
            self.end_headers()
            self.wfile.write(CONTENT[start:])

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield SimpleNamespace(address=f"http://127.0.0.1:{running.server_port}", ranges=ranges)
    running.shutdown()


def file_name() -> str:
    return f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


def test_a_partial_file_is_resumed_and_a_complete_one_kept(
    program: ModuleType, server: SimpleNamespace, tmp_path: Path
) -> None:
    (tmp_path / f"{file_name()}.partial").write_bytes(CONTENT[:1000])
    for _ in range(2):
        path = program.fetch_file(f"{server.address}/{file_name()}", tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]
    assert [entry.name for entry in tmp_path.iterdir()] == [file_name()]


@pytest.mark.parametrize(
    ("name", "message"),
    [("net-00000000.pth", "SHA-256 does not start with 00000000"), ("missing-12345678.pth", "answered 404")],
)
def test_wrong_content_is_refused(
    program: ModuleType, server: SimpleNamespace, tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(program.DownloadError, match=message):
        program.fetch_file(f"{server.address}/{name}", tmp_path)
    assert not list(tmp_path.iterdir())


def test_offline_is_exit_2_with_one_line(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = program.Weights("x", "x", "x", address="http://127.0.0.1:9/net-00000000.pth")
    monkeypatch.setitem(program.WEIGHTS, "vgg19", nowhere)
    assert program.main(["vgg19", "--to", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "not reachable" in err and "again to resume" in err


class Hub:
    """Stands for the hub's client."""

    def __init__(self, digest: str) -> None:
        self.digest = digest

    def model_info(self, repository: str, files_metadata: bool) -> SimpleNamespace:
        lfs = SimpleNamespace(sha256=self.digest)
        return SimpleNamespace(sha="abc", siblings=[SimpleNamespace(rfilename="unet.bin", lfs=lfs)])

    def download(self, repository: str, revision: str, allow_patterns: list[str], local_dir: str) -> None:
        Path(local_dir).mkdir(exist_ok=True)
        (Path(local_dir) / "unet.bin").write_bytes(CONTENT)


@pytest.mark.parametrize(("digest", "code"), [(hashlib.sha256(CONTENT).hexdigest(), 0), ("0" * 64, 2)])
def test_hub_files_are_compared_with_the_hubs_hashes(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digest: str, code: int
) -> None:
    hub = Hub(digest)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.download)
    assert program.main(["ldm-celebahq-256", "--to", str(tmp_path / "ldm")]) == code
    assert (tmp_path / "ldm" / "unet.bin").exists() == (code == 0)


def test_an_unreachable_hub_is_exit_2_with_one_line(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Offline:
        def model_info(self, *arguments: Any, **named: Any) -> None:
            raise ConnectionError("no\nnetwork")

    monkeypatch.setattr("huggingface_hub.HfApi", Offline)
    assert program.main(["ldm-celebahq-256", "--to", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "no network" in err and "offline, copy the repository" in err


def test_list_and_usage(program: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out and weights.licence in out for name, weights in program.WEIGHTS.items())
    for arguments in ([], ["midms"]):
        with pytest.raises(SystemExit) as caught:
            program.main(arguments)
        assert caught.value.code == 2
