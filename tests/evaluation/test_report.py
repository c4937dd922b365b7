"""The HTML report: well-formed, whole, self-contained."""

from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from midms.evaluation.records import Folders, Result
from midms.evaluation.report import histogram_svg, levels_svg, write_report

VOID = {"meta", "img", "rect", "line", "br"}


class Page(HTMLParser):
    """Checks that tags nest, and collects addresses and text."""

    def __init__(self):
        super().__init__()
        self.open_tags, self.addresses, self.text = [], [], ""

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open_tags.append(tag)
        self.addresses += [value for key, value in attributes if key in ("src", "href")]

    def handle_endtag(self, tag):
        assert tag in VOID or self.open_tags.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_whole_and_needs_nothing_else(tmp_path):
    for role in ("generated", "truth"):
        (tmp_path / role).mkdir()
        for k in range(3):
            Image.new("RGB", (200, 100), (k * 90, 0, 0)).save(tmp_path / role / f"{k} <b>.png")
    results = [
        Result("swd", values={"swd_32": 3.0, "swd_average": 2.0}, protocol="a < b", images={"generated": 3}),
        Result("psnr", values={"psnr": 20.5}, standard_errors={"psnr": 0.25}, per_image={"psnr": [20.0, 21.0, np.inf]}),
        Result("fid", status="skipped", reason="no file <x>"),
    ]
    write_report(
        tmp_path / "out.html", Folders(tmp_path / "generated", truth=tmp_path / "truth"), results, {"a": "1"}, 2
    )
    page = Page()
    page.feed((tmp_path / "out.html").read_text())
    page.close()
    assert not page.open_tags
    assert len(page.addresses) == 4 and all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    for part in ("a < b", "skipped: no file <x>", "20.5", "0.25", "psnr per image: mean 20.5 (red), 2 values"):
        assert part in page.text
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], [0.0, 5.0, float("nan")]])
def test_histograms_of_few_values_are_drawn(values):
    assert "nan" not in histogram_svg(values, "x")
    assert histogram_svg([], "x") == ""


def test_bars_of_nothing_and_of_zero_are_drawn():
    assert "<svg" in levels_svg({"a": 0.0, "b": float("inf")}, "x")


def test_the_page_in_a_browser(chromium, tmp_path):
    for role in ("generated", "reference"):
        (tmp_path / role).mkdir()
        for k in range(3):
            Image.new("RGB", (40, 30), (k * 90, 0, 0)).save(tmp_path / role / f"{k}.png")
    results = [
        Result("swd", values={"swd_32": 3.0, "swd_average": 2.0}, protocol="a < b", images={"generated": 3}),
        Result("psnr", values={"psnr": 20.5}, per_image={"psnr": [20.0, 21.0, np.inf]}),
    ]
    folders = Folders(tmp_path / "generated", tmp_path / "reference")
    write_report(tmp_path / "out.html", folders, results, {"torch": "2"})
    context = chromium.new_context(offline=True)
    page, problems, requests = context.new_page(), [], []
    page.on("console", lambda message: problems.append(message.text))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((tmp_path / "out.html").as_uri())
    assert not problems and all(url.startswith(("file:", "data:")) for url in requests)
    assert page.locator("img").count() == 6
    assert page.evaluate("Array.from(document.images).every(image => image.complete && image.naturalWidth > 0)")
    assert "a < b" in page.inner_text("table") and page.locator("svg").count() == 2
    assert page.locator("svg").first.bounding_box()["height"] > 30
    context.close()
