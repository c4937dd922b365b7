"""The app as a visitor meets it: the real program, in a real browser.

The program runs with a home, a working folder and a temporary folder of its own, so that a file written outside the
app's folder is seen.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hostile_uploads import hostile_files
from PIL import Image, ImageDraw

from midms.data.samples import COUNT, draw_sample

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


def serve(place: Path, *options: str, own_folder: bool = True) -> Served:
    """Start `python -m midms.app` on a free port and wait for its address; its console goes to `console.txt`."""
    around, folder = place / "around", place / "app"
    around.mkdir()
    environment = os.environ | {"HOME": str(around), "TMPDIR": str(around), "PYTHONPATH": str(ROOT),
                                "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
    environment.pop("GRADIO_TEMP_DIR", None)
    command = [sys.executable, "-m", "midms.app", "--port", "0", *options]
    command += ["--folder", str(folder)] if own_folder else []
    with (place / "console.txt").open("w") as console:
        process = subprocess.Popen(
            command, cwd=around, env=environment, stdout=subprocess.PIPE, stderr=console, text=True
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    address = re.search(r"http://127\.0\.0\.1:\d+/", line)
    assert address, f"no address: {line!r}"
    return Served(address[0], process, around, folder)


@pytest.fixture(scope="module")
def app(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    place = tmp_path_factory.mktemp("app")
    served = serve(place)
    yield served
    served.process.terminate()
    assert served.process.wait(30) == 0
    log = served.folder / "app.log"
    details = log.read_text() if log.exists() else ""
    assert (place / "console.txt").read_text() == "", f"nothing is said on the console; the log has\n{details}"
    assert "Traceback" not in details, details


@pytest.fixture
def visit(chromium: Any, app: Served) -> Iterator[Callable[[], Any]]:
    """Open the page as a new visitor; requests that leave this machine fail the test."""
    contexts, strangers = [], []

    def watch(request: Any) -> None:
        if not request.url.startswith((app.url, "data:", "blob:")):
            strangers.append(request.url)

    def open_page(width: int = 1280, scheme: str = "light") -> Any:
        size = {"width": width, "height": 900}
        context = chromium.new_context(viewport=size, color_scheme=scheme, accept_downloads=True)
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
    page.wait_for_selector("#message:not(:has-text('Done:'))")
    page.wait_for_selector("#message:has-text('Done:')")


def width_of(page: Any) -> int:
    """Pixels across which the page would have to be scrolled."""
    return int(page.evaluate("document.documentElement.scrollWidth"))


def is_marked_old(page: Any) -> bool:
    """Whether the page says that its result was made from other inputs."""
    return bool(page.evaluate("document.body.classList.contains('inputs-changed')"))


def save_for_docs(page: Any, name: str) -> None:
    """A picture of the page for the documentation, where that is asked for."""
    if os.environ.get("MIDMS_UPDATE_PICTURES"):
        page.evaluate("window.scrollTo(0, 0)")
        page.wait_for_timeout(2000)
        whole = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
        whole.quantize(256).save(ROOT / "docs" / "images" / name, optimize=True)  # a third of the bytes


def drawing(tmp_path: Path) -> Path:
    """A drawing of a face, black lines on white."""
    picture = Image.new("RGB", (200, 200), "white")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((50, 40, 150, 170), outline="black", width=4)
    pen.line((80, 130, 120, 130), fill="black", width=4)
    picture.save(tmp_path / "drawing.png")
    return tmp_path / "drawing.png"


def trace_middle(page: Any) -> str:
    """Click the middle of the result; returns the sentence on where it came from."""
    page.locator("#result img").click()
    page.wait_for_selector("#origin img")
    return page.locator("#origin-text").inner_text()


def test_from_the_first_visit_to_a_reload(app: Served, visit: Callable[[], Any], tmp_path: Path) -> None:
    """One visit, for each takes seconds: translate, look closer, take it along, change the inputs, come back."""
    page = visit()
    for gallery in ("#samples", "#exemplars"):
        page.wait_for_selector(f"{gallery} .thumbnail-item >> nth={COUNT - 1}")
        assert page.locator(f"{gallery} .thumbnail-item").count() == COUNT
    translate(page)
    assert page.locator("#steps img").count() == 1 + 2 * 1 + 2 + 1  # warp, N = 2 with one re-warp, result
    assert re.match(
        r"This pixel was (not )?copied from the exemplar in the one step that matched again", trace_middle(page)
    )
    for name, kind in (("png", "PNG"), ("gif", "GIF")):
        with page.expect_download() as download:
            page.click(f"#download-{name}")
        download.value.save_as(tmp_path / f"result.{name}")
        with Image.open(tmp_path / f"result.{name}") as picture:
            assert picture.format == kind
            assert kind == "GIF" or (picture.size == (128, 128) and "--seed 0" in picture.info["midms"])
    page.click("#compare-tab-button:visible")
    page.wait_for_selector("#compare-picture img")
    assert not is_marked_old(page)
    save_for_docs(page, "app.png")

    page.click("#samples .thumbnail-item >> nth=2")
    page.click("#paint-tab-button:visible")
    page.click("#paint-sample")
    page.wait_for_selector("#canvas-note:has-text('The picked sample')")
    assert is_marked_old(page), "an old result beside new inputs says so"
    page.set_input_files("input[data-testid='Upload a drawing-upload-button']", drawing(tmp_path))
    page.wait_for_selector("#canvas-note:has-text('Taken')")
    translate(page)  # without a stroke
    assert "lines but no parts" in page.locator("#notes").inner_text() and not is_marked_old(page)
    bad = {"name": "bad.png", "mimeType": "image/png", "buffer": b"no picture"}
    page.locator("input[data-testid='Upload a photo-upload-button']").first.set_input_files(bad)
    page.wait_for_selector("#exemplar-note-1:has-text('bad.png')")
    assert page.locator("#exemplar-1 canvas").first.is_visible() and not page.locator("text=/^Error$/").count()
    assert not is_marked_old(page), "the exemplar is still the one that was used"

    page.reload()
    page.wait_for_selector("#message:has-text('Your last picture')")
    page.wait_for_selector("#result img")
    assert page.locator("#canvas canvas").first.is_visible() and not is_marked_old(page)
    page.get_by_role("tab", name="Samples").click()
    page.wait_for_selector("#samples .thumbnail-item.selected")
    picked = page.eval_on_selector_all("#samples .thumbnail-item", "all => all.map(e => e.matches('.selected'))")
    assert [number for number, selected in enumerate(picked) if selected] == [2]
    assert not [file for file in app.around.rglob("*") if file.is_file()], "written outside the app's folder"


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme", "picture"), [
    (390, "light", "app_phone.png"), (390, "dark", "app_phone_dark.png"), (1280, "dark", "app_dark.png"),
])  # fmt: skip
def test_narrow_and_dark_windows(visit: Callable[..., Any], width: int, scheme: str, picture: str) -> None:
    page = visit(width, scheme)
    page.click("#paint-tab-button:visible")
    page.click("#paint-sample")
    page.wait_for_selector("#canvas-note:has-text('The picked sample')")
    assert width_of(page) == width
    translate(page)
    trace_middle(page)
    assert width_of(page) == width
    page.get_by_text("Advanced").click()
    page.wait_for_selector("#amount:visible")
    assert width_of(page) == width
    page.hover("#amount")
    assert "N over T" in page.get_attribute("#amount", "title")
    page.wait_for_timeout(1000)
    save_for_docs(page, picture)


@pytest.mark.slow
def test_a_photo_as_condition_and_as_exemplar(visit: Callable[[], Any], tmp_path: Path) -> None:
    """Without the networks of `midms get photos` a photo gives its edges, and the word what would give more."""
    page = visit()
    Image.fromarray(draw_sample("faces", 128, 6).exemplar).save(tmp_path / "me.png")
    page.locator("input[data-testid='Upload a photo-upload-button']").first.set_input_files(tmp_path / "me.png")
    page.wait_for_selector("#exemplar-note-1:has-text('your photo')")
    page.click("#file-tab-button:visible")
    page.get_by_label("a portrait photo").check()
    page.set_input_files("input[data-testid='Upload a file-upload-button']", tmp_path / "me.png")
    page.wait_for_selector("#file-note:has-text('made of your photo')")
    page.wait_for_selector("#file-maps img")
    assert "midms get photos" in page.locator("#file-note").inner_text()
    translate(page)


@pytest.mark.slow
def test_paint_and_repeat_from_the_command_line(visit: Callable[[], Any], tmp_path: Path) -> None:
    page = visit()
    page.click("#paint-tab-button:visible")
    page.click("#paint-sample")
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
def test_behind_the_prefix_of_a_proxy_and_its_end(chromium: Any, tmp_path: Path) -> None:
    """Paths with and without the prefix are answered: some proxies take it off. SIGTERM leaves no file."""
    served = serve(tmp_path, "--root-path", "/tools/midms", own_folder=False)
    context = chromium.new_context()
    try:
        for path in ("tools/midms/", ""):
            page = context.new_page()
            page.set_default_timeout(WAIT)
            asked: list[str] = []
            page.on("response", lambda answer, asked=asked: asked.append(answer.url))
            page.goto(served.url + path)
            page.wait_for_selector("#exemplar-1 canvas")
            assert any(url.startswith(f"{served.url}tools/midms/") for url in asked)
        translate(page)
        assert list(served.around.glob("midms-app-*"))
        for headers, status in (({"Host": "evil.example"}, 403), ({"Origin": "https://evil.example"}, 403), ({}, 404)):
            assert ask(served.url + "gradio_api/call/run", headers) == status
    finally:
        context.close()
        served.process.terminate()
        status = served.process.wait(60)
    assert status == 0 and not list(served.around.glob("midms-app-*"))
    assert (tmp_path / "console.txt").read_text() == ""


def ask(url: str, headers: dict[str, str]) -> int:
    """Status of a POST that no page sends."""
    request = urllib.request.Request(url, b"{}", {"Content-Type": "application/json", **headers})
    try:
        return int(urllib.request.urlopen(request, timeout=60).status)
    except urllib.error.HTTPError as error:
        return error.code


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
        page.locator("#exemplar-note-1", has_text=name).wait_for()
        messages += 1
    assert messages == 50
    translate(page)
    assert not list((app.folder / "cache").rglob("half*")), "refused uploads are removed"


@pytest.mark.slow
def test_two_visitors_at_once_both_get_a_picture(visit: Callable[[], Any]) -> None:
    first, second = visit(), visit()
    first.click("#translate")
    second.click("#translate")
    for page in (first, second):
        page.wait_for_selector("#message:has-text('Done:')")
        assert page.locator("#result img").count() == 1


@pytest.mark.slow
def test_stop_frees_the_queue(visit: Callable[[], Any]) -> None:
    page = visit()
    page.get_by_text("Advanced").click()
    page.locator("#steps-t input[type=number]").fill("100")
    page.keyboard.press("Tab")
    page.locator("#amount input[type=number]").fill("0.5")
    page.keyboard.press("Tab")
    page.click("#translate")
    page.wait_for_selector("#message:has-text('Step')")
    page.click("#stop")
    page.wait_for_selector("#message:has-text('Stopped.')")
    page.locator("#amount input[type=number]").fill("0.02")
    page.keyboard.press("Tab")
    page.wait_for_timeout(500)
    translate(page)
    assert "2 of 100 steps" in page.locator("#message").inner_text()


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
        page.wait_for_selector("#text-message:has-text('upload one first')")
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
