"""Links between pages lead somewhere, the index names every page, and quoted names exist."""

from __future__ import annotations

import dataclasses
import importlib
import re
from functools import reduce
from pathlib import Path

import pytest
from documented import ROOT, blocks, files

PAGES = files()
#: Pages whose quoted dotted names, settings and paths are all resolved.
RESOLVED = [ROOT / "docs" / name for name in ("differences-from-the-released-code.md", "faq.md", "model_card.md")]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def headings(page: Path) -> set[str]:
    """Anchors as the usual renderers make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for block in blocks(page):
        text = text.replace(block.text, "")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name_of(page)} links to {target}, which does not exist"
        assert not anchor or anchor in headings(file), f"{name_of(page)} links to {target}: no such heading"


def test_index_names_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    linked = {(ROOT / "docs" / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)", index)}
    missing = [name_of(page) for page in PAGES if page.resolve() not in linked and page.name != "index.md"]
    assert not missing, f"docs/index.md does not name {missing}"


def resolve(name: str) -> None:
    """Import a dotted name, attributes and dataclass fields included."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        reduce(getattr, parts[cut:], module)
        return
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("page", RESOLVED, ids=name_of)
def test_quoted_names_exist(page: Path) -> None:
    """`midms.x.y`, `interleave.x`, `configs/x.yaml` and the like."""
    from midms.diffusion.settings import InterleaveSettings

    quoted = set(re.findall(r"`([^`\s]+)`", page.read_text(encoding="utf-8")))
    fields = {field.name for field in dataclasses.fields(InterleaveSettings)}
    for word in sorted(quoted):
        if word.startswith("midms."):
            resolve(word)
        elif word.startswith("interleave."):
            assert word.removeprefix("interleave.") in fields, f"no setting {word}"
        elif word.split("/")[0] in ("configs", "scripts", "tests", "docs", "midms", "data", "notebooks"):
            assert (ROOT / word).exists(), f"no file {word}"
