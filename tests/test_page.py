"""`gfnet export --page` in headless Chromium, opened by its file: a tiny net for hand signs, a played camera."""

import base64
import hashlib
import html
import io
import json
import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from browsing import Firefox, chromium, needs_browser, needs_firefox, opens, until
from PIL import Image
from playwright.sync_api import expect

from gfnet_pl.data.canvas import Canvas
from gfnet_pl.data.decode import read_picture
from gfnet_pl.evaluation.calibration import Calibration, Rejection
from gfnet_pl.evaluation.enrolment import WEIGHT, mirror_images
from gfnet_pl.evaluation.familiarity import Familiarity
from gfnet_pl.export.classifier import Classifier
from gfnet_pl.export.graph import DISTANCE, OPSET, OUTPUTS, Exported, write_onnx
from gfnet_pl.export.page import render
from gfnet_pl.export.runtime import OnnxRuntime, TorchRuntime, channels_first, run_all
from gfnet_pl.export.vectors import Vectors
from gfnet_pl.hand_signs import drawing
from gfnet_pl.model.gfnet import GFNet
from gfnet_pl.run.enrolled import read_enrolment, write_enrolment
from gfnet_pl.run.export import FORMAT, Description

LETTERS = ["A", "B", "L", "Nothing", "Space"]
CANVAS = Canvas(32, 32)
SIGNER = 40
FILMED = ["L", "Nothing", "B", "Space"]
HEAVY = 20_000.0
TIMES = 24  # a frame is shown, at 20 per second

pytestmark = needs_browser


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def drawn(label, frame):
    return png(drawing.render(label, signer=SIGNER, frame=frame))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A net that knows five signs of one signer, its description and test vectors, as an export has them."""
    folder = tmp_path_factory.mktemp("exported")
    images = np.stack([read_picture(drawn(label, frame), CANVAS) for label in LETTERS for frame in range(12)])
    labels = np.arange(5).repeat(12)
    torch.manual_seed(0)
    net = GFNet(image_size=32, patch_size=4, dim=64, depth=1, num_classes=5).eval()
    with torch.inference_mode():  # only the head learns, by least squares: training would take half a minute
        features = net.features(torch.from_numpy(images)[:, None]).double()
        known = torch.cat([features, torch.ones(len(features), 1)], 1)
        wanted = 16.0 * torch.eye(5, dtype=torch.float64)[labels] - 8
        solved = torch.linalg.solve(known.T @ known + 1e-3 * torch.eye(65), known.T @ wanted)
        net.head.weight.copy_(solved[:-1].T)
        net.head.bias.copy_(solved[-1])
    learned = Familiarity.fit(features.numpy(), labels)
    learned = learned.limited_by(features.numpy(), np.ones(len(features), bool))
    calibration = Calibration(1.5, [Rejection(0.01, 0.6)], 8, learned).in_float32()
    accuracy = {"share": 0.864, "low": 0.75, "high": 0.93, "images": 1344, "people": "new people", "over_people": True}
    accuracy |= {"worst": {"name": "signer066", "share": 0.673, "images": 168}}
    described = Description(
        format=FORMAT,
        version="1",
        commit=None,
        run="quick/version_0",
        checkpoint_sha256="c" * 64,
        weights_sha256="0" * 64,
        opset=OPSET,
        classes=LETTERS,
        canvas=CANVAS._asdict(),
        input="",
        outputs=OUTPUTS | {DISTANCE: ""},
        preparation=[],
        source="embedded data: synthetic, </script> hands",
        synthetic=True,
        calibrated=calibration.promise,
        temperature=calibration.temperature,
        thresholds=[each._asdict() for each in calibration.rejections],
        new_groups=8,
        familiar_within=calibration.familiarity.limit,
        accuracy={"unseen": accuracy},
    )
    module = Exported(net, calibration)
    write_onnx(folder / "model.onnx", module, described)
    pixels = images[::12]
    outputs = run_all(TorchRuntime(module), pixels)
    files = [drawn(label, 0) for label in LETTERS]
    with Image.open(io.BytesIO(files[-1])) as picture:
        picture.save(folder / "a.tif")  # which Chromium does not read
    files[-1] = (folder / "a.tif").read_bytes()
    vectors = Vectors([f"{label}.png" for label in LETTERS], files, labels[::12], pixels, outputs)
    return described, (folder / "model.onnx").read_bytes(), vectors, OnnxRuntime(folder / "model.onnx")


@pytest.fixture(scope="module")
def classifier(exported):
    described, _, _, runtime = exported
    return Classifier(
        runtime,
        classes=described.classes,
        canvas=described.size,
        calibration=described.calibration,
        familiar_within=described.familiar_within,
        digest=described.checkpoint_sha256,
    )


@pytest.fixture(scope="module")
def file(exported, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "index.html"
    file.write_text(render(*exported[:3]), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser whose webcam plays the signs, each for 1.2 seconds, where the box is at first."""
    film = tmp_path_factory.mktemp("film") / "film.y4m"
    with open(film, "wb") as stream:
        stream.write(b"YUV4MPEG2 W160 H120 F20:1 Ip A1:1 C420jpeg\n")
        for label in FILMED:
            scene = np.full((120, 160), 90.0)
            scene[12:108, 32:128] = drawing.render(label, signer=SIGNER, frame=4)
            luma = np.rint(16 + scene * 219 / 255).astype(np.uint8).tobytes()
            stream.write((b"FRAME\n" + luma + bytes([128]) * (120 * 160 // 2)) * TIMES)
    flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with chromium(*flags, f"--use-file-for-fake-video-capture={film}") as browser:
        yield browser


def opened(browser, file, before="", **options):
    page = browser.new_context(offline=True, **options).new_page()
    page.add_init_script(before)
    opens(page, file)
    page.locator("body[data-ready], .check.bad").first.wait_for()
    return page


def upload(page, *named):
    page.locator("#files").set_input_files(
        [{"name": name, "mimeType": "image/png", "buffer": content} for name, content in named]
    )
    page.locator(f"#name:text-is('{named[-1][0]}')").wait_for()


def test_the_page_tests_itself_and_says_of_pictures_what_the_classifier_says(browser, file, classifier, exported):
    page = opened(browser, file)
    words = page.locator("#check.good").inner_text()
    assert words.startswith("Self-test passed: 5 pictures")
    assert "their files decoded to the same levels" in words
    assert "1 in a format that this browser does not read" in words
    page.locator("#shelf button").last.click()
    expect(page.locator("#picture")).to_have_js_property(
        "naturalWidth", 32, timeout=60_000
    )  # what the net sees, instead
    found = {label: drawn(label, 13) for label in LETTERS}
    for label, content in found.items():
        upload(page, (f"{label}.png", content))
        wanted = classifier(content)
        tops = page.locator("#top li b").all_inner_texts()
        assert tops == [name for name, _ in wanted.top]
        assert page.locator("#label").inner_text() == (wanted.label if wanted.accepted else "Not sure")
    assert sum(classifier(content).label == label for label, content in found.items()) >= 3  # or all could be one class
    # Noise is not accepted, and that is said in words.
    noise = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    assert classifier(noise).accepted is False
    upload(page, ("noise.png", png(noise)))
    assert page.locator("#label").inner_text() == "Not sure"
    assert "unlike the pictures" in page.locator("#why").inner_text()
    assert "not sure" in page.locator("#said").inner_text()
    # What cannot be read is told, and stops nothing; a dropped and a pasted picture are read.
    page.locator("#files").set_input_files([{"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"}])
    page.locator("#trouble:has-text('a.png cannot be read')").wait_for()
    for event, field in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        give = """([event, field, name, content]) => {
          const given = new DataTransfer();
          given.items.add(new File([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))], name));
          dispatchEvent(Object.assign(new Event(event, { cancelable: true }), { [field]: given }));
        }"""
        page.evaluate(give, [event, field, f"{event}.png", base64.b64encode(found["B"]).decode()])
        page.locator(f"#name:text-is('{event}.png')").wait_for()
    # What it was trained on, how good it is, for whom it is bad, and that the hands are drawn.
    text = page.locator("body").inner_text().replace("\u00a0", " ")
    for words in ("drawn hands", "86.4 %", "75.0 % to 93.0 %", "67.3 % only", "never saw", "</script> hands"):
        assert words in text
    page.locator("#licences summary").click()
    page.locator("#licences pre:has-text('Microsoft')").wait_for()
    assert page.said == []  # no error, no warning, nothing fetched
    page.close()


SHAPES = [(32, 32), (31, 70), (400, 300), (7, 5), (97, 33), (33, 401), (1, 1)]
CANVASES = [
    Canvas(32, 32), Canvas(32, 48, True), Canvas(48, 32, True, "letterbox"), Canvas(32, 40, False, "letterbox"),
    Canvas(32, 32, False, "crop"), Canvas(24, 40, True, "crop"),
]  # fmt: skip


def test_a_picture_becomes_in_the_browser_the_levels_that_it_becomes_in_python(browser, file):
    random = np.random.default_rng(0)
    pictures = [png(random.integers(0, 256, (height, width, 3), dtype=np.uint8)) for height, width in SHAPES]
    cases = [(content, canvas) for canvas in CANVASES for content in pictures]
    cases.append((png(random.integers(0, 256, (50, 60, 4), dtype=np.uint8)), CANVASES[0]))  # transparent
    # A JPEG that lies on its side, and that Pillow decodes at half its size.
    smooth = Image.fromarray(drawing.render("L", signer=3, frame=0)).resize((360, 240), Image.Resampling.BICUBIC)
    stream, exif = io.BytesIO(), Image.Exif()
    exif[274] = 6
    smooth.save(stream, "JPEG", exif=exif)
    cases.append((stream.getvalue(), Canvas(96, 96)))
    code = """(cases) => Promise.all(cases.map(async ([content, canvas]) => {
      const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
      return btoa(String.fromCharCode(...await gfnet.pixelsOfFile(new Blob([bytes]), canvas)));
    }))"""
    page = opened(browser, file)
    given = page.evaluate(code, [[base64.b64encode(content).decode(), canvas._asdict()] for content, canvas in cases])
    page.close()
    off = []
    for levels, (content, canvas) in zip(given, cases, strict=True):
        wanted = channels_first(read_picture(content, canvas)[None])[0].astype(int)
        off.append(np.abs(np.frombuffer(base64.b64decode(levels), np.uint8).reshape(wanted.shape) - wanted))
    for levels, (canvas, (height, width)) in zip(off, product(CANVASES, SHAPES), strict=False):
        # Pillow 13 goes down before it goes across where that is faster: then other sums are rounded.
        assert levels.max() <= (1 if height > width or canvas.fit == "crop" else 0), (canvas, height, width)
    *_, transparent, jpeg = off
    assert transparent.max() <= 2
    assert jpeg.mean() < 0.5
    assert jpeg.max() <= 4


def test_a_net_that_gives_something_else_stops_the_page(browser, file, tmp_path):
    text = file.read_text(encoding="utf-8")
    start = text.index('id="data">') + len('id="data">')
    end = text.index("</script>", start)
    data = json.loads(text[start:end])
    data["vectors"][2]["outputs"]["logits"][1] += 0.01
    other = tmp_path / "other.html"
    other.write_text(f"{text[:start]}{json.dumps(data)}{text[end:]}", encoding="utf-8")
    page = opened(browser, other)
    assert "The page is stopped. the net gives other logits here" in page.locator("#check.bad").inner_text()
    assert page.locator("#files").is_disabled()
    assert page.locator("#webcam").is_disabled()
    page.close()


def test_the_page_may_connect_to_nothing_and_runs_no_other_script(browser, file):
    text = file.read_text(encoding="utf-8")
    (policy,) = [html.unescape(line) for line in text.splitlines() if "Content-Security-Policy" in line]
    assert "default-src 'none'" in policy
    for forbidden in ("connect-src", "unsafe-inline", "'unsafe-eval'", "http:", "https:"):
        assert forbidden not in policy
    script = text.split('<script type="module">')[-1].split("</script>")[0]
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    page = opened(browser, file)
    blocked = page.evaluate("fetch('https://example.org').then(() => 'fetched', (error) => error.message)")
    assert blocked != "fetched"
    assert any("Content Security Policy" in line for line in page.said)
    page.close()


def test_signs_before_the_webcam_are_read_and_typed(browser, file, classifier):
    page = opened(browser, file)
    page.get_by_role("button", name="Start the webcam").click()
    page.locator("#text:text-matches('B L')").wait_for()  # the film has begun again
    assert page.locator("#text").inner_text().removeprefix("B ") in ("L", "LB L")  # it may be seen from its middle on
    # The net is shown the box as it is; only the view is mirrored.
    seen = page.evaluate("[...document.querySelector('#seen').getContext('2d').getImageData(0, 0, 32, 32).data]")
    seen = np.array(seen).reshape(32, 32, 4)[..., 0]
    shown = np.stack([classifier.prepare(drawn(label, 4)) for label in FILMED]).astype(int)
    assert np.abs(seen - shown).mean((1, 2)).min() < 2
    assert np.abs(seen[:, ::-1] - shown).mean((1, 2)).min() > 4
    assert page.locator("#scene").evaluate("scene => getComputedStyle(scene).transform") == "matrix(-1, 0, 0, 1, 0, 0)"
    assert "frames per second" in page.locator("#speed").inner_text()
    # The box goes where the key, or the hand, goes.
    box = page.locator("#box")

    def moved(action):
        before = box.bounding_box()
        action()
        after = box.bounding_box()
        return [round(after[name] - before[name]) for name in ("x", "y", "width")]

    def drag(element, across, down):
        place = element.bounding_box()
        page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        page.mouse.down()
        page.mouse.move(place["x"] + place["width"] / 2 + across, place["y"] + place["height"] / 2 + down)
        page.mouse.up()

    box.focus()
    right, _, same = moved(lambda: page.keyboard.press("ArrowRight"))
    assert right > 0
    assert same == 0
    assert moved(lambda: page.keyboard.press("-"))[2] < 0
    right, lower, same = moved(lambda: drag(box, 40, 20))
    assert (right, lower, same) == (pytest.approx(40, abs=4), pytest.approx(20, abs=4), 0)
    assert moved(lambda: drag(page.locator("#corner"), 20, -20))[2] < -20
    # Delete, and a camera that is unplugged.
    page.evaluate("document.querySelector('#video').srcObject.getVideoTracks()[0].dispatchEvent(new Event('ended'))")
    assert "The webcam stopped" in page.locator("#trouble").inner_text()
    text = page.locator("#text").inner_text()
    page.get_by_role("button", name="Delete").click()
    assert page.locator("#text").inner_text() == text[:-1]
    page.get_by_role("button", name="Clear").click()
    assert page.locator("#text").inner_text() == ""
    assert page.said == []
    page.close()


def test_a_hand_that_it_is_taught_is_kept_and_goes_to_a_file_and_back(browser, file, classifier, tmp_path):
    def hand(label, frame):
        return png(drawing.render(label, signer=signer, frame=frame))

    def enrolled(signer):
        shown = {label: [png(drawing.render(label, signer=signer, frame=0))] for label in LETTERS[:3]}
        return classifier.enrol(shown)

    def tops():
        return [page.locator("#top li b").all_inner_texts(), page.locator("#top li span").all_inner_texts()]

    def wanted(content, weight=HEAVY):
        outputs = run_all(classifier.runtime, classifier.prepare(content)[None])
        (shares,) = person.probabilities(outputs.probabilities, outputs.features, weight)
        return shares

    people = ((signer, enrolled(signer)) for signer in range(7, 27))
    signer, person = next(each for each in people if not each[1].mirrored)  # few are read better in a mirror
    heavy = tmp_path / "heavy.html"  # this net has learned no features: all cosines are close to 1
    text = file.read_text(encoding="utf-8")
    assert f'"weight":{WEIGHT}' in text
    heavy.write_text(text.replace(f'"weight":{WEIGHT}', f'"weight":{HEAVY}'), encoding="utf-8")
    page = opened(browser, heavy)
    assert page.locator("#teach-this").is_disabled()  # the examples are of somebody else
    for label in LETTERS[:3]:
        upload(page, (f"{label}.png", hand(label, 0)))
        expect(page.locator("#sign")).to_have_value(label)  # it goes on to the next
        page.get_by_role("button", name="Learn this one").click()
    expect(page.locator("#taught")).to_have_text("3 of 5 signs shown, 3 pictures.")
    new = [hand(label, 6) for label in LETTERS]
    for number, content in enumerate(new):
        upload(page, (f"new{number}.png", content))
        assert tops()[0] == [LETTERS[place] for place in np.argsort(-wanted(content))[:3]]
    gains = [np.abs(wanted(content) - wanted(content, 0)).max() for content in new]
    assert max(gains) > 0.1
    changed = new[int(np.argmax(gains))]
    upload(page, ("changed.png", changed))
    taught = tops()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save to a file").click()
    download.value.save_as(tmp_path / "me.npz")
    written = read_enrolment(tmp_path / "me.npz", LETTERS, classifier.digest)
    assert written.counts.tolist() == [1, 1, 1, 0, 0]
    np.testing.assert_allclose(written.means, person.means, atol=1e-5)
    # It is there when the page is opened again, until it is forgotten; the file brings it back.
    page.reload()
    page.locator("body[data-ready]").wait_for()
    expect(page.locator("#taught")).to_contain_text("3 of 5 signs shown")
    page.get_by_role("button", name="Forget my hand").click()
    expect(page.locator("#taught")).to_contain_text("Nothing shown yet.")
    assert page.evaluate("localStorage.length") == 0
    upload(page, ("new.png", changed))
    assert tops() != taught
    write_enrolment(tmp_path / "python.npz", person, LETTERS, classifier.digest)
    write_enrolment(tmp_path / "other.npz", person, LETTERS, "another")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "python.npz").read_bytes()[:300])
    for name, words in (
        ("other.npz", "other.npz cannot be taken: it is of another net"),
        ("cut.npz", "cut.npz cannot be taken: it is no file of gfnet enrol"),
        ("python.npz", "3 of 5 signs shown"),
    ):
        page.locator("#given").set_input_files(tmp_path / name)
        page.locator(f"#taught:has-text('{words}')").wait_for()
    assert tops() == taught
    assert page.said == []
    page.close()


def test_a_left_hand_is_seen_in_a_mirror_by_the_page_as_by_python(browser, file, classifier, tmp_path):
    def left(label, frame):
        return png(np.ascontiguousarray(drawing.render(label, signer=SIGNER, frame=frame)[:, ::-1]))

    def agrees(label, frame):
        said = classifier(left(label, frame), person=person)
        upload(page, (f"{label}{frame}.png", left(label, frame)))
        assert page.locator("#top li b").first.inner_text() == said.label
        share = f"{said.probability:.0%}".replace("100", "over 99").replace("%", "\u00a0%")
        assert page.locator("#top li span").first.inner_text() == share
        return said.label == label

    person = classifier.enrol({label: [left(label, 0)] for label in LETTERS})
    assert person.mirrored
    page = opened(browser, file)
    for label in LETTERS:
        upload(page, (f"{label}.png", left(label, 0)))
        page.locator("#sign").select_option(label)
        page.get_by_role("button", name="Learn this one").click()
        expect(page.locator("#taught")).to_contain_text(f"{1 + LETTERS.index(label)} of 5 signs")
    pixels = np.stack([classifier.prepare(left(label, 0)) for label in LETTERS])
    seen, in_mirror = (classifier.seen(run_all(classifier.runtime, each)) for each in (pixels, mirror_images(pixels)))
    assert seen.distances is not None
    likelier = (in_mirror.likely(np.arange(5)) - seen.likely(np.arange(5))).sum()
    kept = page.evaluate("JSON.parse(Object.values(localStorage)[0]).gain")
    assert kept == pytest.approx(likelier, abs=0.01)
    expect(page.locator("#taught")).to_contain_text("Your hand is more familiar in a mirror")
    assert [classifier(left(label, 6)).label == label for label in LETTERS].count(True) < 4
    assert all(agrees(label, 6) for label in LETTERS)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save to a file").click()
    download.value.save_as(tmp_path / "me.npz")
    written = read_enrolment(tmp_path / "me.npz", LETTERS, classifier.digest)
    assert written.mirrored
    np.testing.assert_allclose(written.means, person.means, atol=1e-5)
    page.reload()
    page.locator("body[data-ready]").wait_for()
    assert agrees("B", 7)
    page.get_by_role("button", name="Forget my hand").click()
    expect(page.locator("#taught")).to_have_text("Nothing shown yet. It is forgotten, in this browser too.")
    page.locator("#given").set_input_files(tmp_path / "me.npz")
    expect(page.locator("#taught")).to_contain_text(
        "5 of 5 signs shown, 5 pictures. Your hand is more familiar in a mirror"
    )
    assert agrees("L", 8)
    assert page.said == []
    page.close()


def test_a_net_that_looks_in_the_mirror_by_itself_is_left_to_it(browser, exported, tmp_path):
    described, model, vectors, _ = exported
    (tmp_path / "index.html").write_text(render(replace(described, mirrored_views=True), model, vectors), "utf-8")
    page = opened(browser, tmp_path / "index.html")
    for label in LETTERS:
        upload(
            page, (f"{label}.png", png(np.ascontiguousarray(drawing.render(label, signer=SIGNER, frame=0)[:, ::-1])))
        )
        page.locator("#sign").select_option(label)
        page.get_by_role("button", name="Learn this one").click()
        expect(page.locator("#taught")).to_contain_text(f"{1 + LETTERS.index(label)} of 5 signs")
    expect(page.locator("#taught")).not_to_contain_text("mirror")
    assert page.evaluate("JSON.parse(Object.values(localStorage)[0]).gain") == 0
    assert page.said == []
    page.close()


NO_CAMERA = {
    "NotAllowedError": "The webcam was refused. Allow it",
    "NotFoundError": "No webcam was found",
    "NotReadableError": "another program uses it",
    "": "gives the page no webcam",
}


def test_what_the_browser_does_not_give_is_one_sentence(browser, file):
    page = opened(browser, file)
    for name, words in NO_CAMERA.items():
        refuse = (
            "(name) => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('no', name); }; }"
        )
        page.evaluate(
            refuse if name else "Object.defineProperty(navigator, 'mediaDevices', { value: undefined })", name
        )
        page.locator("#webcam").click()
        page.locator(f"#trouble:has-text('{words}')").wait_for()
        assert page.locator("#webcam").is_enabled()
    page.close()
    page = opened(browser, file, "delete globalThis.WebAssembly")
    assert "This browser runs no WebAssembly" in page.locator("#check.bad").inner_text()
    assert page.locator("#webcam").is_disabled()
    page.close()


def test_on_a_phone_nothing_is_cut_and_all_is_named(browser, file):
    page = opened(browser, file, viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for scheme, wanted in (
        ("light", ["rgb(28, 31, 35)", "rgb(254, 254, 252)"]),
        ("dark", ["rgb(231, 232, 234)", "rgb(21, 23, 26)"]),
    ):
        page.emulate_media(color_scheme=scheme)
        colours = page.evaluate("(style => [style.color, style.backgroundColor])(getComputedStyle(document.body))")
        assert colours == wanted
    # By the keyboard alone: a picture of the shelf is chosen, and what it is comes to the screen reader's ear.
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#shelf') !== null"):
            break
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("#said").inner_text().startswith("B.png, labelled B: ")
    named = page.evaluate("""[...document.querySelectorAll("button, input, [tabindex], [role=img], video, img")].map(
      (each) => each.ariaLabel || each.alt || each.textContent || each.labels?.[0].textContent || "")""")
    assert all(named)
    page.close()


@needs_firefox
def test_the_page_works_in_firefox(tmp_path, file):
    """There, a page opened by its file has no origin, and the runtime of the net asks for one."""
    with Firefox(tmp_path) as firefox:
        firefox.opens(file)
        check = "document.getElementById('check').className + '; ' + document.getElementById('check').textContent"
        words = until(lambda: (words := firefox.says(check)) and re.match("check (good|bad)", words) and words)
        assert words.startswith("check good; Self-test passed: 5 pictures")
        assert "their files decoded to the same levels" in words
        firefox.says("document.getElementById('webcam').click()")
        until(lambda: "per frame" in firefox.says("document.getElementById('speed').textContent"))
