"""The report in headless Chromium (Debian's package chromium), as a person opens it: by its file, without a network."""

import os
import shutil

import pytest
from playwright.sync_api import sync_playwright
from test_report import RUN, made, run  # noqa: F401  (fixtures)

from gfnet_pl.cli import main

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}

# Only outside of CI, which installs it: who has no browser can still run the other tests.
pytestmark = pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, run, request):  # noqa: F811
    assert main(["report", str(RUN)]) == 0
    width, height = SIZES[request.param]
    page = browser.new_page(viewport={"width": width, "height": height})
    page.said = []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda asked: page.said.append(asked.url) if asked.url.startswith("http") else None)
    page.goto((run / RUN / "report.html").as_uri())
    yield page
    assert page.said == []  # no error, no warning, nothing fetched
    page.close()


@pytest.mark.parametrize("page", SIZES, indirect=True)
def test_the_page_works(page):
    # It fits the screen: what is wider scrolls by itself.
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    # Unseen, the set to trust, is shown first; a tab shows another, and all tabs of that set with it.
    assert page.locator("[data-choose][aria-pressed=true]").all_inner_texts() == ["unseen"] * 3
    page.get_by_role("button", name="test", exact=True).first.click()
    assert page.locator("[data-choose][aria-pressed=true]").all_inner_texts() == ["test"] * 3
    counts = [int(text) for text in page.locator("#matrix td button").all_inner_texts()]
    assert sum(counts) == 12
    assert page.locator("#classes [data-of-set]:visible").count() == 2  # the classes' chart and the groups'
    assert page.locator("#calibration [data-of-set]:visible").count() == 1
    # A cell shows its pictures, and no others.
    figures = page.locator("#shelf figure")
    cells = page.locator("#matrix td button").all()
    assert len(cells) > 3  # or some class would have all its pictures in one cell, and nothing to mix up
    for cell in cells:
        cell.click()
        assert figures.count() == int(cell.inner_text())
        assert all("Test/" in text for text in figures.all_inner_texts())
    for box in page.locator("#shelf .thumb").all():
        assert box.bounding_box()["width"] == 96
        assert "data:image/webp" in box.evaluate("element => getComputedStyle(element).backgroundImage")
    # Pointing at a picture on the map names it, on every map alike.
    canvas = page.locator("canvas[data-map=features]")
    canvas.scroll_into_view_if_needed()
    x, y = page.evaluate("data.maps.features[0]")
    box = canvas.bounding_box()
    inside = box["width"] - 28
    page.mouse.move(box["x"] + 14 + x * inside, box["y"] + 14 + (1 - y) * inside)
    assert page.locator("#hover").is_visible()
    names = page.evaluate("data.maps.pictures.map(number => data.pictures[number][4])")
    assert any(name in page.locator("#hover").inner_text() for name in names)
    page.mouse.move(1, 1)
    assert not page.locator("#hover").is_visible()


@pytest.mark.parametrize("page", ["desktop"], indirect=True)
def test_the_page_is_legible_in_the_dark_and_on_paper(page):
    def colours():
        return page.evaluate("(style => [style.color, style.backgroundColor])(getComputedStyle(document.body))")

    page.emulate_media(color_scheme="light")
    light = colours()
    page.emulate_media(color_scheme="dark")
    assert colours() == ["rgb(230, 233, 238)", "rgb(20, 23, 28)"] != light
    page.emulate_media(media="print", color_scheme="dark")
    assert colours() == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    assert not page.locator("nav").is_visible()
    assert len(page.pdf()) > 20_000
