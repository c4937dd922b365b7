"""Links between pages lead somewhere, the index names every page, and quoted names exist."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
from documented import ROOT, blocks, files
from programs import load_program, resolve

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


def quoted_on(page: Path) -> set[str]:
    return set(re.findall(r"`([^`\s]+)`", page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", RESOLVED, ids=name_of)
def test_quoted_names_exist(page: Path) -> None:
    """`midms.x.y`, `interleave.x`, `configs/x.yaml` and the like."""
    from midms.diffusion.settings import InterleaveSettings

    quoted = quoted_on(page)
    fields = {field.name for field in dataclasses.fields(InterleaveSettings)}
    for word in sorted(quoted):
        if "*" in word:
            continue
        if word.startswith("midms."):
            resolve(word)
        elif word.startswith("interleave."):
            assert word.removeprefix("interleave.") in fields, f"no setting {word}"
        elif word.split("/")[0] in ("configs", "scripts", "tests", "docs", "midms", "data", "notebooks"):
            assert (ROOT / word).exists(), f"no file {word}"


def golden_words() -> list[str]:
    """What differences-from-the-released-code.md quotes and is neither a name, a key nor a path."""
    training = importlib.import_module("midms.training.midms").MIDMsTraining
    keys = {
        *inspect.signature(training.__init__).parameters,
        "form",
        "condition_input",
        "padding_mode",
        "noise",
        "per_sample",
    }
    keys |= {"interleave.*", "exemplar_features", "scripts/parity"}
    words = quoted_on(RESOLVED[0]) - keys
    return sorted(w for w in words if "." not in w and "=" not in w and "/" not in w and not w.startswith("--"))


@pytest.mark.parametrize("word", golden_words())
def test_golden_case_exists(word: str, request: pytest.FixtureRequest) -> None:
    cases = load_program("scripts/verify_parity.py").collect_cases()
    names = [f"{word}{ending}" for ending in (".safetensors", ".npz", ".json", ".json.gz")]
    assert any(fnmatch(name, pattern) for name in names for pattern in cases), f"nothing checks a case {word}"
    shared = request.getfixturevalue("shared")
    assert any((folder / name).is_file() for folder in shared.glob("goldens*") for name in names), f"no case {word}"


def test_the_presets_differ_in_what_the_page_names() -> None:
    from midms.diffusion.settings import InterleaveSettings

    paper, released = (dataclasses.asdict(p) for p in (InterleaveSettings.paper(), InterleaveSettings.released()))
    different = {f"interleave.{name}" for name in paper if paper[name] != released[name]}
    assert different <= quoted_on(RESOLVED[0]), "a difference of the presets is not on the page"
