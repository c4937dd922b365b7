"""The page of examples: one command makes it, and the page of the documentation is of the weights that are shipped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from programs import load_program

from midms.io.provenance import SHIPPED, weight_digests

ROOT = Path(__file__).resolve().parents[2]


def pictures_of(page: Path) -> list[Path]:
    return [page.parent / name for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text())]


def test_one_command_makes_page_and_pictures(
    tiny_pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery = load_program("scripts/gallery.py")
    words = ["--out", str(tmp_path), "--weights", str(tiny_pipeline_folder), "--rows", "2"]
    assert gallery.main(words) == 0
    page = tmp_path / "gallery.md"
    shown = pictures_of(page)
    assert [picture.stem for picture in shown] == ["faces", "your_exemplar", "steps"], "no networks for photos here"
    assert all(Image.open(picture).width > 200 for picture in shown)
    assert f"| `{tiny_pipeline_folder}` | {weight_digests(tiny_pipeline_folder)['denoiser.safetensors']} |" in (
        page.read_text()
    )
    assert "gallery.md: 3 pictures" in capsys.readouterr().out


def test_pictures_that_grow_too_large_are_refused(
    tiny_pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery = load_program("scripts/gallery.py")
    monkeypatch.setattr(gallery, "MAX_BYTES", 1000)
    monkeypatch.setattr(gallery, "sections", lambda options: [gallery.steps_section(str(tiny_pipeline_folder))])
    assert gallery.main(["--out", str(tmp_path)]) == 2
    assert "bytes of pictures, at most 1,000" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_page_is_of_the_shipped_weights() -> None:
    """If it is not: python scripts/gallery.py"""
    page = ROOT / "docs" / "gallery.md"
    recorded = dict(re.findall(r"^\| `([\w-]+)` \| ([0-9a-f]{16}) \|$", page.read_text(), re.MULTILINE))
    now = {name: weight_digests(SHIPPED / name)["denoiser.safetensors"] for name in recorded}
    assert {"demo", "demo-figures", "demo-churches"} <= set(recorded)
    assert recorded == now, "the shipped weights have changed: run `python scripts/gallery.py`"
    shown = pictures_of(page)
    assert len(shown) >= 5 and sum(picture.stat().st_size for picture in shown) <= 1_500_000
