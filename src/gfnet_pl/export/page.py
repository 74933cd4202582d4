"""`index.html`: a page that says what is on a picture or before a webcam. One file, without a server or a network.

It has the net, the program that runs it (onnxruntime-web) and the test vectors inside. On opening it runs these, and it
stops if the net gives anything else than PyTorch did. The template is `page/`; its scripts are joined to one module.
"""

import base64
import gzip
import hashlib
import json
import re
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gfnet_pl.evaluation.enrolment import LEAST_LIKELY, MIRRORED_FROM, WEIGHT
from gfnet_pl.evaluation.figures import People
from gfnet_pl.export.check import LIMIT
from gfnet_pl.export.runtime import channels_first
from gfnet_pl.export.vectors import Vectors
from gfnet_pl.files import replacing
from gfnet_pl.run.export import Description, Export, intact
from gfnet_pl.run.folder import ExportFolder

_TEMPLATE = Path(__file__).parent / "page"
RUNTIME = _TEMPLATE / "onnxruntime-web.tar.xz"  # `make runtime` writes it
BUNDLE, WASM, NOTICES = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm", "ThirdPartyNotices.txt"
_SCRIPTS = ("pixels.js", "net.js", "npz.js", "page.js", "teach.js", "writing.js", "camera.js", "start.js")
_LEVELS = 4.0  # grey levels on average: browsers decode a JPEG otherwise than Pillow, but not another picture
_EXPORTS = re.compile(r"export\s*\{([^}]*)\};?\s*(//# sourceMappingURL=\S*\s*)?$")


def write_page(folder: ExportFolder, export: Export) -> None:
    """Writes the page of an export beside it.

    Args:
        folder: The export.
        export: Its record.

    Raises:
        UserError: A file of the export is missing or damaged.
    """
    model = intact(folder, export, folder.onnx).read_bytes()
    vectors = Vectors.read(intact(folder, export, folder.vectors))
    with replacing(folder.page) as file:
        file.write(render(export.description, model, vectors))


def render(described: Description, model: bytes, vectors: Vectors) -> str:
    """Writes the page.

    Args:
        described: What the net is.
        model: The ONNX file.
        vectors: The test vectors.

    Returns:
        HTML.
    """
    with tarfile.open(RUNTIME) as archive:
        runtime = {each.name: archive.extractfile(each).read() for each in archive}  # type: ignore[union-attr]
    licence = (_TEMPLATE / "LICENSE-onnxruntime.txt").read_bytes()
    style, script, ort = _read("style.css"), "\n".join(map(_read, _SCRIPTS)), _as_global(runtime[BUNDLE].decode())
    packed = {"runtime": runtime[WASM], "model": model, "notices": licence + b"\n\n" + runtime[NOTICES]}
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html").render(
        policy=_policy(style, (ort, script)),
        title=_title(described),
        about=_about(described),
        warning=_warning(described),
        examples=_examples(described, vectors),
        trust=_trust(described),
        spells=_spells(described),
        run=described.run,
        described=described,
        style=Markup(style),
        ort=Markup(ort),
        script=Markup(script),
        packed=[(name, _base64(gzip.compress(content, mtime=0))) for name, content in packed.items()],
        data=Markup(_json(_data(described, vectors))),
    )


def _read(name: str) -> str:
    """A text with the line ends that HTML has after reading: the policy has its digest."""
    return (_TEMPLATE / name).read_text(encoding="utf-8")


def _as_global(module: str) -> str:
    """A module's text, with its exports in `globalThis.ort`: a module in the page can be imported by no other one.

    It looks for its own address, from which it would load files. The page has all of them, and at file:// Firefox gives
    it an origin that the module cannot read ("null"): so it gets an address where there is nothing.
    """
    module = module.replace("import.meta.url", '"https://none.invalid/"')
    found = _EXPORTS.search(module)
    assert found, f"{RUNTIME}: {BUNDLE} has no export at its end"
    names = (each.split(" as ") for each in found[1].split(","))
    exports = ",".join(f"{json.dumps(public)}:{private}" for private, public in names)
    return f"{module[: found.start()]}globalThis.ort={{{exports}}};"


def _policy(style: str, scripts: Iterable[str]) -> str:
    """The page may run its own scripts and compile the runtime, and may connect to nothing."""
    digests = " ".join(map(_digest, scripts))
    return (
        f"default-src 'none'; script-src {digests} 'wasm-unsafe-eval'; style-src {_digest(style)}; "
        "img-src blob: data:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{_base64(hashlib.sha256(text.encode()).digest())}'"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _json(value: object) -> str:
    """JSON that no HTML parser takes for the end of its script."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _data(described: Description, vectors: Vectors) -> dict[str, Any]:
    """What the page's script reads."""
    outputs = {name: value for name, value in vectors.outputs._asdict().items() if value is not None}
    del outputs["features"]  # nothing is said of them, and there are many
    names = ("classes", "canvas", "thresholds", "familiar_within", "mirrored_views", "calibrated", "checkpoint_sha256")
    shown = channels_first(vectors.pixels)
    return {
        "described": {name: getattr(described, name) for name in names},
        "limits": {name: LIMIT * max(1.0, float(np.abs(value).max())) for name, value in outputs.items()}
        | {"levels": _LEVELS},
        "weight": WEIGHT,
        "mirrored_from": MIRRORED_FROM,
        "least_likely": LEAST_LIKELY,
        "vectors": [
            {
                "name": vectors.paths[place],
                "label": described.classes[vectors.labels[place]],
                "file": _base64(vectors.files[place]),
                "pixels": _base64(shown[place].tobytes()),
                "outputs": {name: _numbers(value[place]) for name, value in outputs.items()},
            }
            for place in range(len(vectors.paths))
        ],
    }


def _numbers(values: npt.NDArray[np.float32]) -> list[float]:
    return [float(f"{value:.8g}") for value in np.atleast_1d(values)]


def _title(described: Description) -> str:
    return "Hand signs, read in your browser" if described.synthetic else f"{described.source}: what is on it?"


def _about(described: Description) -> str:
    classes = described.classes
    names = ", ".join(classes) if len(classes) <= 40 else f"{', '.join(classes[:40])} and {len(classes) - 40:,} more"
    return f"Show it a picture. A small net tells {len(classes):,} classes apart: {names}."


def _spells(described: Description) -> str:
    """How a word is spelled before the webcam; "" where the classes are no letters."""
    if not any(len(name) == 1 for name in described.classes):
        return ""
    words = (
        "Hold a sign before the webcam until its letter is typed: it must be accepted for 8 frames and 0.7 seconds. "
    )
    words += "For the same letter again, lower the hand first."
    names = {name.lower(): name for name in described.classes}
    words += f" {names['space']} types a space." if "space" in names else ""
    words += f" {names['nothing']} types nothing." if "nothing" in names else ""
    return words


def _warning(described: Description) -> str:
    if not described.synthetic:
        return ""
    return (
        "It learned from drawn hands, not from photographs, and will not read real hands well. No figure here says "
        "anything about real hands."
    )


def _examples(described: Description, vectors: Vectors) -> str:
    new = next(iter(described.accuracy.values()), {}).get("people") == People.NEW.value
    whose = "of people that it never saw in training" if new else "of the data that it was tested on"
    return (
        f"These {len(vectors.paths)} came with it: they are {whose}, and with them it tested itself on opening. "
        "A question mark: it is not sure. Yours come first."
    )


def _trust(described: Description) -> list[str]:
    """How good the net is, in sentences."""
    sentences = [f"It was trained on: {described.source}."]
    if not described.accuracy:
        return [*sentences, "It was not tested, so nothing is known of how good it is."]
    whose = {
        People.NEW.value: "people that it never saw",
        People.SAME.value: "people that it saw in training, on other pictures of them",
        People.UNKNOWN.value: "pictures that it never saw, of people whom it may have seen",
    }
    name, trusted = next(iter(described.accuracy.items()))
    words = f"On {whose[trusted['people']]} ({name}), it is right for {_percent(trusted['share'])} of "
    words += f"{trusted['images']:,} pictures. The 95 % interval is {_percent(trusted['low'])} to "
    words += f"{_percent(trusted['high'])}" + (", for further people like these." if trusted["over_people"] else ".")
    if worst := trusted["worst"]:
        words += f" People differ: for the worst of them it is right for {_percent(worst['share'])} only."
    sentences.append(words)
    if trusted["people"] == People.NEW.value:
        known = [
            f"{_percent(each['share'])} ({each_name})"
            for each_name, each in described.accuracy.items()
            if each["people"] == People.SAME.value
        ]
        if known:
            sentences.append(f"On other pictures of the people that it was trained on: {', '.join(known)}.")
    if described.thresholds:
        sentences.append(
            f"Its probabilities, and from which one on it accepts a prediction, hold {described.calibrated}."
        )
    return [*sentences, "It knows its own classes only. It names one of them for every picture, whatever that shows."]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"
