"""Starting the app: help at once, one line for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from midms.app.__main__ import main, parse


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
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "MPLCONFIGDIR", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")  # put back after the test
    assert main(["--weights", str(tmp_path / "none"), "--folder", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("midms.app: ") and error.count("\n") == 1


def test_without_gradio_the_extra_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main([]) == 2
    assert "midms[app]" in capsys.readouterr().err
