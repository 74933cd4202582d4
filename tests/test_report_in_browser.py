"""The report in headless Chromium (Debian's package chromium), as a person opens it: by its file, without a network."""

import re
import string
import zlib
from itertools import product

import pytest
from browsing import chromium, needs_browser, opens
from conftest import QUIET, TINY_NET
from test_report import RUN, made, run  # noqa: F401  (fixtures)
from trees import write_grey

from gfnet_pl.cli import main
from gfnet_pl.evaluation.tendencies import Tendency

SIZES = {"desktop": (1400, 900), "phone": (390, 844)}
SCREENS = 3  # high, at most, is a section
PROPERTIES = [Tendency(f"a_property_{i}: its value", False, -0.55, -1, 0.55, 0.5, 1, 10, 0.04) for i in range(12)]
SMALLEST = 11  # pixels, of a text

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


def opened(browser, file, size):
    width, height = SIZES[size]
    return opens(browser.new_page(viewport={"width": width, "height": height}), file)


@pytest.fixture
def page(browser, run, request):  # noqa: F811
    assert main(["report", str(RUN)]) == 0
    page = opened(browser, run / RUN / "report.html", request.param)
    yield page
    assert page.said == []  # no error, no warning, nothing fetched
    page.close()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The page of a net with 28 classes, one with a long name, 12 blocks and nothing learned, so that all is wrong."""
    folder = tmp_path_factory.mktemp("large")
    names = [*string.ascii_uppercase, "Nothing", "a_class_with_a_rather_long_name"]
    for split, people, count in (("Train", "abcdefgh", 1), ("Unseen", "uvwxyz", 2)):
        for who, label, number in product(people, names, range(count)):
            path = folder / "pictures" / split / label / f"signer_{who}_{number}.png"
            write_grey(path, zlib.crc32(f"{path.name}{label}".encode()), side=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr("gfnet_pl.report.of_sets.of_people", lambda *_: PROPERTIES)
        patch.setattr("gfnet_pl.report.of_sets.tendency_words", lambda *_: "A sentence about light. " * 6)
        data = ["--data.root=pictures", "--data.group_by=(signer_.)", "--data.holdout_per_class=1"]
        net = [*TINY_NET, "--model.dim=8", "--model.depth=12", "--trainer.max_epochs=3", "--model.warmup_epochs=1"]
        assert main(["fit", "--config=base.yaml", *net, *data, *QUIET]) == 0
        assert main(["test", *QUIET]) == 0
        assert main(["report"]) == 0
    return folder / RUN / "report.html"


MEASURE = """() => [...document.querySelectorAll("header, section")].map((section) => ({
  name: section.id || "header",
  height: section.getBoundingClientRect().height,
  right: Math.max(...[...section.querySelectorAll("*")].filter((each) => each.offsetParent)
    .map((each) => each.getBoundingClientRect().right)),
  sideways: [...section.querySelectorAll("*")].filter((each) => each.offsetParent && each.clientWidth
    && each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).overflowX !== "visible"
    && !(getComputedStyle(each).textOverflow === "ellipsis" && each.title)).map((each) => each.outerHTML.slice(0, 90)),
  sizes: [...section.querySelectorAll("*")].filter((each) => each.offsetParent && [...each.childNodes]
    .some((node) => node.nodeType === 3 && node.textContent.trim())).map((each) => getComputedStyle(each).fontSize),
}))"""


@pytest.mark.parametrize("size", SIZES)
def test_no_section_is_taller_than_three_screens_none_scrolls_sideways_and_no_text_is_tiny(browser, large, size):
    page = opened(browser, large, size)
    width, height = SIZES[size]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    measured = page.evaluate(MEASURE)
    assert len(measured) >= 13
    assert page.locator("#people .tendencies tr:visible").count() == 6
    assert page.locator("#people .besides img:visible").count() == 9
    for section in measured:
        assert section["height"] <= SCREENS * height, section["name"]
        assert section["right"] <= width, section["name"]
        assert section["sideways"] == [], section["name"]
        assert min(float(size.removesuffix("px")) for size in section["sizes"]) >= SMALLEST, section["name"]
    assert page.said == []
    page.close()


def test_the_pictures_of_a_cell_open_beside_the_matrix_on_the_screen(browser, large):
    page = opened(browser, large, "desktop")
    page.locator("#matrix").scroll_into_view_if_needed()
    for cell in (page.locator("#matrix td button").first, page.locator("#matrix td button").last):
        cell.click()
        matrix, shelf = page.locator("#matrix").bounding_box(), page.locator("#shelf figure").first.bounding_box()
        assert shelf["x"] >= matrix["x"] + matrix["width"]
        assert 0 <= shelf["y"] <= SIZES["desktop"][1] - shelf["height"]
    # Arrows go from cell to cell; the matrix is one stop of the Tab key.
    assert page.locator("#matrix button[tabindex='0']").count() == 1
    before = page.evaluate("document.activeElement.dataset.cell")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    after = page.evaluate("document.activeElement.dataset.cell")
    assert after != before
    page.keyboard.press("Enter")
    assert page.locator(f"#matrix [data-cell='{after}'][aria-pressed=true]").count() == 1
    assert page.said == []
    page.close()


def test_on_a_phone_the_matrix_is_a_list_and_the_pictures_open_below_the_tapped_row(browser, large):
    page = opened(browser, large, "phone")
    assert not page.locator("#matrix").is_visible()
    row = page.locator("#mistakes .mistake").nth(3)
    chip = row.locator("button").first
    chip.click()
    assert chip.get_attribute("aria-pressed") == "true"
    row_box, shelf = row.bounding_box(), page.locator("#pictures").bounding_box()
    assert shelf["y"] == pytest.approx(row_box["y"] + row_box["height"], abs=2)
    assert page.locator("#shelf figure").count() == int(chip.inner_text().split()[-1])
    assert page.said == []
    page.close()


@pytest.mark.parametrize("page", SIZES, indirect=True)
def test_the_page_works(page):
    # It fits the screen: what is wider scrolls by itself.
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    # Unseen, the set to trust, is shown first; a tab shows another, and all tabs of that set with it.
    assert page.locator("[data-choose][aria-pressed=true]").all_inner_texts() == ["unseen"] * 4
    page.get_by_role("button", name="test", exact=True).first.click()
    assert page.locator("[data-choose][aria-pressed=true]").all_inner_texts() == ["test"] * 4
    assert page.locator("#classes [data-of-set]:visible").count() == 1
    assert page.locator("#calibration [data-of-set]:visible").count() == 1
    # A cell shows its pictures, and no others.
    figures = page.locator("#shelf figure")
    cells = page.locator("#matrix td button, #mistakes button").locator("visible=true").all()
    assert len(cells) > 3  # or some class would have all its pictures in one cell, and nothing to mix up
    seen = 0
    for cell in cells:
        cell.click()
        count = int(re.search(r" ?(\d+)( of \d+)?$", cell.inner_text())[1])
        seen += count
        assert figures.count() == count
        assert all("Test/" in text for text in figures.all_inner_texts())
    assert seen == 12
    for box in page.locator("#shelf .thumb").all():
        assert box.bounding_box()["width"] > 48
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
    assert colours() == ["rgb(231, 232, 234)", "rgb(21, 23, 26)"] != light
    page.emulate_media(media="print", color_scheme="dark")
    assert colours() == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    assert not page.locator("nav").is_visible()
    assert len(page.pdf()) > 20_000
