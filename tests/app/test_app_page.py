"""The app as a visitor meets it: the real program, in a real browser.

The program runs with a home, a working folder and a temporary folder of its own, so that a file written outside the
app's folder is seen.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hostile_uploads import hostile_files
from PIL import Image

pytest.importorskip("gradio", reason="needs the extra app")
ROOT = Path(__file__).parents[2]
WAIT = 120_000  # milliseconds, for machines that do other work as well
sys.path.insert(0, str(ROOT / "tests" / "oig"))


class Served(NamedTuple):
    """A running app."""

    url: str
    process: subprocess.Popen[str]
    around: Path  # home, working folder and temporary folder
    folder: Path  # the app's own


def serve(place: Path, *options: str) -> Served:
    """Start `python -m midms.app` on a free port and wait for its address."""
    around, folder = place / "around", place / "app"
    around.mkdir()
    environment = os.environ | {"HOME": str(around), "TMPDIR": str(around), "PYTHONPATH": str(ROOT),
                                "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
    environment.pop("GRADIO_TEMP_DIR", None)
    command = [sys.executable, "-m", "midms.app", "--port", "0", "--folder", str(folder), *options]
    process = subprocess.Popen(command, cwd=around, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    address = re.search(r"http://127\.0\.0\.1:\d+/", line)
    assert address, f"no address: {line!r}"
    return Served(address[0], process, around, folder)


@pytest.fixture(scope="module")
def app(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = serve(tmp_path_factory.mktemp("app"))
    yield served
    served.process.terminate()
    served.process.wait(30)


@pytest.fixture
def visit(chromium: Any, app: Served) -> Iterator[Callable[[], Any]]:
    """Open the page as a new visitor; requests that leave this machine fail the test."""
    contexts, strangers = [], []

    def watch(request: Any) -> None:
        if not request.url.startswith((app.url, "data:", "blob:")):
            strangers.append(request.url)

    def open_page() -> Any:
        context = chromium.new_context(viewport={"width": 1400, "height": 1250}, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on("request", watch)
        page.goto(app.url)
        page.wait_for_selector("#exemplar-1 canvas")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not strangers, f"the page asks others: {strangers}"


def translate(page: Any) -> None:
    """Press the button and wait for the picture."""
    page.click("#translate")
    page.wait_for_selector("text=/^Done:/")


def trace_middle(page: Any) -> str:
    """Click the middle of the result; returns the sentence on where it came from."""
    page.locator("#result img").click()
    page.wait_for_selector("#origin img")
    return page.locator("#origin-text").inner_text()


def test_the_first_picture(app: Served, visit: Callable[[], Any], tmp_path: Path) -> None:
    page = visit()
    translate(page)
    assert page.locator("#steps img").count() == 1 + 3 * 3 + 5 + 1  # warp, N = 8 with three re-warps, result
    sentence = trace_middle(page)
    assert re.match(r"Pixel \(3\d, 3\d\) matches exemplar 1 at \(\d+, \d+\)", sentence)
    with page.expect_download() as download:
        page.click("#download-png")
    download.value.save_as(tmp_path / "result.png")
    with Image.open(tmp_path / "result.png") as picture:
        assert picture.size == (64, 64) and "--seed 0" in picture.info["midms"]
    assert not [file for file in app.around.rglob("*") if file.is_file()], "written outside the app's folder"


@pytest.mark.slow
def test_paint_and_repeat_from_the_command_line(visit: Callable[[], Any], tmp_path: Path) -> None:
    page = visit()
    page.click("#paint-tab-button:visible")
    page.click("#paint-scene")
    page.wait_for_timeout(2000)
    neck, across = [((10, 75), (14, 110))], [((-70, row), (70, row)) for row in (-40, -10, 20, 50)]
    for editor, strokes in (("#canvas", neck), ("#exemplar-1", across)):
        box = page.locator(f"{editor} canvas").first.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        for start, end in strokes:
            page.mouse.move(x + start[0], y + start[1])
            page.mouse.down()
            page.mouse.move(x + end[0], y + end[1], steps=8)
            page.mouse.up()
    page.wait_for_timeout(1000)
    translate(page)
    trace_middle(page)
    page.wait_for_timeout(1000)
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    if os.environ.get("MIDMS_UPDATE_PICTURES"):
        (ROOT / "docs" / "images" / "app.png").write_bytes((tmp_path / "page.png").read_bytes())
    with page.expect_download() as download:
        page.click("#download-zip")
    download.value.save_as(tmp_path / "bundle.zip")
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        archive.extractall(tmp_path)
    command = shlex.split((tmp_path / "command.txt").read_text())
    assert "--exemplar-mask" in command
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "midms.cli", *command[1:]], cwd=tmp_path, env=environment, check=True)
    again, made = (np.asarray(Image.open(tmp_path / name)) for name in ("again.png", "result.png"))
    np.testing.assert_array_equal(again, made)


@pytest.mark.slow
def test_fifty_bad_uploads_get_fifty_messages(app: Served, visit: Callable[[], Any]) -> None:
    page = visit()
    hostile = {name: content for name, content in hostile_files().items() if content}
    hostile |= {f"again-{name}": content for name, content in list(hostile.items())[: max(0, 50 - len(hostile))]}
    messages = 0
    upload = page.locator("input[data-testid='Upload a photo-upload-button']").first
    for name, content in list(hostile.items())[:50]:
        file = {"name": name, "mimeType": "image/png", "buffer": content}
        upload.set_input_files(file)
        toast = page.locator(".toast-body", has_text=name.split(".")[0]).last
        toast.wait_for()
        messages += 1
        for button in page.locator(".toast-close").all():
            button.click(force=True, timeout=2000)
        toast.wait_for(state="detached")
    assert messages == 50
    translate(page)
    assert not list((app.folder / "cache").rglob("half*")), "refused uploads are removed"


@pytest.mark.slow
def test_two_visitors_at_once_both_get_a_picture(visit: Callable[[], Any]) -> None:
    first, second = visit(), visit()
    first.click("#translate")
    second.click("#translate")
    for page in (first, second):
        page.wait_for_selector("text=/^Done:/")
        assert page.locator("#result img").count() == 1


@pytest.mark.slow
def test_stop_frees_the_queue(visit: Callable[[], Any]) -> None:
    page = visit()
    for label, value in (("Steps T", "100"), ("Noise level N", "50")):
        page.get_by_label(f"number input for {label}").fill(value)
        page.keyboard.press("Tab")
    page.click("#translate")
    page.wait_for_selector("#message:has-text('Step')")
    page.click("#stop")
    page.wait_for_selector("#message:has-text('Stopped.')")
    page.get_by_label("number input for Noise level N").fill("2")
    page.keyboard.press("Tab")
    page.wait_for_timeout(500)
    translate(page)
    assert "2 U-Net calls" in page.locator("#message").inner_text()


@pytest.mark.slow
def test_edit_by_text(chromium: Any, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs the extra text")
    import torch
    from tiny_stable_diffusion import tiny_pipeline

    tiny_pipeline(torch.float32).save_pretrained(tmp_path / "weights")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)).save(tmp_path / "cat.png")
    served = serve(tmp_path, "--text-weights", str(tmp_path / "weights"))
    context = chromium.new_context(viewport={"width": 1400, "height": 1000})
    try:
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.goto(served.url)
        page.get_by_role("tab", name="Edit by text").click()
        page.click("#edit")
        page.wait_for_selector(".toast-body:has-text('upload one first')")
        page.set_input_files("input[data-testid='Upload a picture-upload-button']", tmp_path / "cat.png")
        page.wait_for_selector("#text-picture img")
        page.fill("#source-prompt textarea", "a cat")
        page.fill("#target-prompt textarea", "a dog")
        page.locator("#text-steps input[type=number]").fill("3")
        page.click("#edit")
        page.wait_for_selector("#text-message:has-text('Done.')")
        assert page.locator("#text-result img").count() == 1
    finally:
        context.close()
        served.process.terminate()
        served.process.wait(30)
