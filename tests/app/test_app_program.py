"""Starting the app: help at once, one line for every mistake."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest

from midms.app import __main__ as program
from midms.app.__main__ import main, parse, stop_signals


def keep_environment(patch: pytest.MonkeyPatch) -> None:
    """Put back after the test what `prepare_environment` sets."""
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "MPLCONFIGDIR", "HF_HUB_DISABLE_TELEMETRY"):
        patch.setenv(name, "")


def test_it_listens_on_this_machine_unless_told() -> None:
    options = parse([])
    assert (options.host, options.weights, options.folder) == ("127.0.0.1", "demo", None)


@pytest.mark.parametrize("port", ["70000", "-1", "web"])
def test_a_port_that_is_none(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--port", port])
    assert ended.value.code == 2 and "0 to 65535" in capsys.readouterr().err


def test_weights_that_are_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gradio", reason="needs the extra app")
    keep_environment(monkeypatch)
    assert main(["--weights", str(tmp_path / "none"), "--folder", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("midms.app: ") and error.count("\n") == 1


def test_without_gradio_the_extra_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main([]) == 2
    assert "pip install '.[app]'" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["midms", "ftp://x/y", "/a b", "https://"])
def test_a_prefix_that_is_none(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--root-path", path])
    assert "expected /PATH" in capsys.readouterr().err


def test_prefixes_and_hosts() -> None:
    options = parse(["--root-path", "https://example.org/midms/", "--allowed-host", "a.example", "b.example"])
    assert options.root_path == "https://example.org/midms" and options.allowed_host == ["a.example", "b.example"]
    assert parse(["--root-path", "/midms"]).root_path == "/midms" and parse([]).root_path == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_without_leftovers(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gradio", reason="needs the extra app")
    keep_environment(monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    used: list[Path] = []

    def serve(options: object, folder: Path) -> None:
        (folder / "results").mkdir()
        used.append(folder)
        os.kill(os.getpid(), number)
        raise AssertionError("the signal ended nothing")

    monkeypatch.setattr(program, "serve", serve)
    before = signal.getsignal(number)
    assert main([]) == 0
    assert len(used) == 1 and not list(tmp_path.iterdir()) and signal.getsignal(number) == before


def test_signals_do_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
