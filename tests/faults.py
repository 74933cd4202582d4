"""Injects faults for real, in loops: `python tests/faults.py --write docs/reliability.md` is `make faults`.

Kills, signals, failing writes and random input hit whole commands, each in a process of its own, which is forked from
this one, so that nothing is imported twice. A try survives if the command ends as it should (status 0, 2 with one line,
or that of its signal), shows no traceback, does not hang, loses nothing, and leaves only whole files. Needs Linux.
"""

import argparse
import gzip
import io
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from bad_disk import disk, kinds_in, what_is_wrong
from conftest import CLASSES, QUIET, TINY_NET, write_picture
from PIL import Image
from trees import PACKED, manifest

from gfnet_pl.cli import main
from gfnet_pl.data.canvas import Canvas
from gfnet_pl.data.datamodule import ImageDataModule
from gfnet_pl.data.decode import read_each
from gfnet_pl.errors import UserError
from gfnet_pl.report import analysis
from gfnet_pl.training import precision

SECONDS = 300  # after which a command hangs: busy machines are slow
FIT = ["fit", "--config=base.yaml", *TINY_NET, *QUIET, "--data.root=pictures", "--data.batch_size=8"]
LONG = [*FIT, "--trainer.max_epochs=1000", "--model.warmup_epochs=1"]
RESUME = ["fit", *QUIET, "--ckpt_path=last.ckpt"]
LAST = Path("runs/base/version_0/checkpoints/last.ckpt")
COMMANDS = {
    "fit": [*FIT, "--stage=new", "--trainer.max_epochs=1"],
    "resume": [*RESUME, "--trainer.max_epochs=3"],
    "test": ["test", *QUIET],
    "other data": ["test", *QUIET, "--data.root=pictures/Train"],
    "predict": ["predict", "pictures/Test", "--out=predictions.csv"],
    "report": ["report"],
    "card": ["export", "--card"],
    "audit": ["audit", "pictures", "--page=audit.html"],
    "export": ["export", "--page"],
}


class Child:
    """A command in a process of its own.

    Attributes:
        pid: Its process.
        text: What it has written so far.
    """

    def __init__(self, command, prepare=lambda: None):
        source, sink = os.pipe()
        self.text, self._source, self._began = "", source, time.monotonic()
        self.pid = os.fork()
        if not self.pid:
            os.close(source)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as in a terminal, also where this runs under nohup or by `&`
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for number in (1, 2):
                os.dup2(sink, number)
            sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(number, "w")) for number in (1, 2))
            os._exit(_status(command, prepare))
        os.close(sink)

    def read(self, until):
        """Reads what it says until it ends, or until a time; whether it has ended."""
        while (left := until - time.monotonic()) > 0:
            if select.select([self._source], [], [], min(left, 1))[0]:
                part = os.read(self._source, 65536)
                if not part:
                    return True
                self.text += part.decode(errors="replace")
        return False

    def end(self):
        """Its status as a shell sees it, None if it hangs."""
        ended = self.read(self._began + SECONDS)
        if not ended:
            os.kill(self.pid, signal.SIGKILL)
        os.close(self._source)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return (128 - status if status < 0 else status) if ended else None


def _status(command, prepare):
    try:
        prepare()
        status = command() if callable(command) else main(command)
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            pass
    return status if isinstance(status, int) else 1


class Place:
    """A folder with pictures and a run that was trained and tested, which every try begins with."""

    def __init__(self, root):
        self.root = Path(root)
        self.template = self.root / "template"
        self.folder = self.root / "place"
        (self.template / "work").mkdir(parents=True)
        (self.root / "tmp").mkdir()
        os.environ |= {"XDG_CACHE_HOME": str(self.folder / "cache"), "TMPDIR": str(self.root / "tmp")}
        for number, label in enumerate(CLASSES):
            for index in range(8):
                split = "Train" if index < 6 else "Test"
                path = self.template / f"work/pictures/{split}/{label}/{index}.png"
                write_picture(path, label, 100 * number + index)
        self.fresh()
        for command in ([*FIT, "--trainer.max_epochs=2", "--model.warmup_epochs=1"], ["test", *QUIET]):
            assert Child(command).end() == 0
        shutil.rmtree(self.template)
        shutil.copytree(self.folder, self.template)

    def fresh(self, *, run=True):
        os.chdir(self.root)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.template, self.folder)
        os.chdir(self.folder / "work")
        if not run:
            shutil.rmtree("runs", ignore_errors=True)

    def files(self):
        return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def nothing(place, rng, times):
    """nothing, for comparison: every command of the loops ends with status 0"""
    for command in list(COMMANDS)[:times]:
        place.fresh()
        child = Child(COMMANDS[command])
        yield (None if child.end() == 0 else child.text[-300:]), command


def kills(place, rng, times):
    """kill -9 at random moments of a training, then resumed: nothing is lost, every file is whole"""
    for _ in range(times):
        place.fresh(run=False)
        child = Child(LONG)
        until = time.monotonic() + SECONDS
        while rng.random() > 0.02 and not LAST.is_file() and time.monotonic() < until:  # most have a last.ckpt
            time.sleep(0.02)
        child.read(time.monotonic() + rng.uniform(0, 1.5))
        os.kill(child.pid, signal.SIGKILL)
        child.end()
        wrong = what_is_wrong(2, "gfnet: error", {}, full=False)
        had = LAST.is_file()
        if not wrong and had:
            epochs = torch.load(LAST, weights_only=True)["epoch"] + 2
            again = Child([*RESUME, f"--trainer.max_epochs={epochs}"])
            wrong = None if again.end() == 0 else again.text[-300:]
        yield wrong, f"last.ckpt: {had}"


def signals(place, rng, times):
    """SIGTERM, SIGHUP or SIGINT at random moments of a training: status 128 + n, last.ckpt, no traceback"""
    for _ in range(times):
        place.fresh(run=False)
        child = Child(LONG)
        until = time.monotonic() + SECONDS
        while not Path("runs/base/version_0").is_dir() and time.monotonic() < until:
            time.sleep(0.01)
        child.read(time.monotonic() + rng.uniform(0, 4))
        number = rng.choice([signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
        os.kill(child.pid, number)
        status = child.end()
        wrong = None if status == 128 + number and "Traceback" not in child.text else f"{status} {child.text[-300:]}"
        if "stopped after step" in child.text and not LAST.is_file():
            wrong = "no last.ckpt"
        yield wrong or what_is_wrong(2, "gfnet: error", {}, full=False), number.name


def writes(place, rng, times):
    """a full or a read-only disk from some write on, each kind of write of each command once"""
    tries, found = [], place.root / "events.json"
    for command in COMMANDS:
        place.fresh()

        def learn(command=command):
            with disk(place.folder) as healthy:
                status = main(COMMANDS[command])
            found.write_text(json.dumps(healthy.events))
            return status

        assert Child(learn).end() == 0, command
        events = json.loads(found.read_text())
        tries += [(command, full, event) for full in (True, False) for event in kinds_in(events, full=full)]
    for command, full, event in rng.sample(tries, min(times, len(tries))):
        place.fresh()
        before = place.files()

        def attempt(command=command, full=full, event=event):
            with disk(place.folder, lambda number, name: name == event, full=full):
                return main(COMMANDS[command])

        child = Child(attempt)
        yield what_is_wrong(child.end(), child.text, before, full=full), f"{command} {event} {full}"


def limits(place, rng, times):
    """RLIMIT_FSIZE: the system itself refuses to write files above a random size, any command"""
    for _ in range(times):
        place.fresh()
        before, command = place.files(), rng.choice(list(COMMANDS))
        size = int(2 ** rng.uniform(0, 20))
        child = Child(COMMANDS[command], lambda size=size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))
        yield what_is_wrong(child.end(), child.text, before, full=True), f"{command} {size}"


def pictures(place, rng, times):
    """pictures with random bytes changed, cut out or doubled, decoded: read or refused, in 1 GB of memory"""
    sources = []
    image = Image.effect_noise((40, 32), 80)
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000"):
        for each in (image, image.convert("RGB"), image.convert("P")):
            stream = io.BytesIO()
            try:
                each.save(stream, kind)
            except (OSError, KeyError, ValueError):
                continue
            sources.append((kind, stream.getvalue()))
    for start in range(0, times, 500):
        paths = []
        for number in range(min(500, times - start)):
            kind, content = rng.choice(sources)
            paths.append(place.root / f"tmp/{number}.{'jp2' if kind == 'JPEG2000' else kind.lower()}")
            paths[-1].write_bytes(mutated(content, rng))

        def decode(paths=paths):
            resource.setrlimit(resource.RLIMIT_AS, (_size() + 2**30,) * 2)
            images, _ = read_each(paths, Canvas(16, 16))
            return 0 if len(images) == len(paths) else 1

        child = Child(decode)
        wrong = None if (status := child.end()) == 0 else f"{status} {child.text[-300:]}"
        for path in paths:
            path.unlink()
            yield wrong, f"500 at once from {start}"
            wrong = None


def sets(place, rng, times):
    """manifests, IDX, pixel CSV, .npz and .zip with random bytes changed, prepared for training: read or refused"""
    sources = []
    for layout in (manifest, *PACKED):
        folder = place.root / "sources" / layout.__name__
        sources.append((folder, Path(layout(folder)).relative_to(folder)))
    zipped = place.root / "sources/zipped"
    zipped.mkdir()
    shutil.make_archive(str(zipped / "set"), "zip", place.template / "work/pictures")
    sources.append((zipped, Path("set.zip")))
    at_once = 20
    for start in range(0, times, at_once):
        place.fresh(run=False)
        roots = []
        for number in range(min(at_once, times - start)):
            folder, root = rng.choice(sources)
            shutil.copytree(folder, f"sets/{number}")
            damage(
                rng.choice(sorted(path for path in Path(f"sets/{number}").rglob("*.*") if path.suffix != ".png")), rng
            )
            roots.append(f"sets/{number}/{root}")

        def prepare(roots=roots):
            resource.setrlimit(resource.RLIMIT_AS, (_size() + 2**30,) * 2)
            for root in roots:
                print(root)  # the last one is the one that failed
                data = ImageDataModule(root, image_size=16, holdout_per_class=0)
                with suppress(UserError):
                    data.setup("fit")
                    data.setup("test")
            return 0

        child = Child(prepare)
        wrong = None if (status := child.end()) == 0 else f"{status} {child.text[-600:]}"
        for _ in roots:
            yield wrong, f"{at_once} at once from {start}"
            wrong = None


def damage(path, rng):
    """Changes a file, or what it holds compressed: then only a reader of the content can notice it."""
    if path.suffix == ".gz" and rng.random() < 0.7:
        path.write_bytes(gzip.compress(mutated(gzip.decompress(path.read_bytes()), rng)))
    elif path.suffix in (".npz", ".zip") and rng.random() < 0.7:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        one = rng.choice(sorted(members))
        members[one] = mutated(members[one], rng)
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    else:
        path.write_bytes(mutated(path.read_bytes(), rng))


def files(place, rng, times):
    """a file of a run changed, cut or doubled at random; then any command on it"""
    for _ in range(times):
        place.fresh()
        file = rng.choice(sorted(path for path in Path("runs").rglob("*") if path.is_file() and path.suffix))
        file.write_bytes(mutated(file.read_bytes(), rng))
        command = rng.choice(["resume", "test", "predict", "report", "card", "audit"])
        child = Child(COMMANDS[command])
        status = child.end()
        wrong = None if status in (0, 2) and "Traceback" not in child.text else f"{status} {child.text[-300:]}"
        yield wrong, f"{command} {file}"


def words(place, rng, times):
    """random command lines and configs: options of all commands with values of all kinds, configs changed at random"""
    options = [
        *(
            "--config",
            "--stage",
            "--ckpt_path",
            "--seed_everything",
            "--out",
            "--json",
            "--page",
            "--data",
            "--trainer",
        ),
        *(f"--trainer.{name}" for name in ("max_epochs", "max_steps", "max_time", "precision")),
        *(f"--trainer.{name}" for name in ("callbacks", "logger", "accumulate_grad_batches", "gradient_clip_val")),
        *(f"--data.{name}" for name in ("root", "splits", "classes", "group_by", "batch_size", "folds", "fold", "fit")),
        *(f"--data.{name}" for name in ("val_fraction", "image_size", "colour", "augment", "class_emphasis", "seed")),
        *(f"--model.{name}" for name in ("dim", "depth", "patch_size", "image_size", "filter_size", "stem", "lr")),
        *("--model.pretrained", "--model.classes", "--tf32.enabled", "--emphasis_from", "-c", "-h", "--", "--x"),
    ]
    values = ["1", "0", "-1", "2.5", "nan", "1e99", "true", "null", "[]", "{}", "[1, a]", "{a: 1}", "x", "", " ", "\0"]
    values += [
        "pictures",
        "runs",
        "last.ckpt",
        "best.ckpt",
        "base.yaml",
        "/dev/null",
        "..",
        "~",
        "é",
        "a" * 300,
        "32-true",
    ]
    values += [
        "auto",
        "cpu",
        "ddp",
        "16",
        "[7, 7]",
        "conv",
        "group",
        "crop",
        "\udc80",
        "lightning.pytorch.Trainer",
        "@x",
    ]
    configs = Path(__file__).parents[1] / "configs"
    quick = [command for name, command in COMMANDS.items() if name != "export"]
    for _ in range(times):
        place.fresh()
        line = list(rng.choice([*quick, ["validate"], ["runs"], ["x"], []]))
        for _ in range(rng.randint(1, 3)):
            option, value = rng.choice(options), rng.choice(values)
            line += rng.choice([[f"{option}={value}"], [option, value], [option], [value]])
        if rng.random() < 0.3:
            content = (configs / rng.choice(("base.yaml", "quick.yaml", "robust.yaml", "polish.yaml"))).read_bytes()
            Path("changed.yaml").write_bytes(mutated(content, rng))
            line += ["--config=changed.yaml"]
        line += ["--trainer.fast_dev_run=1"] if line[:1] == ["fit"] else []
        child = Child(line)
        status = child.end()
        wrong = None if status in (0, 2) and "Traceback" not in child.text else f"{status} {child.text[-400:]}"
        yield wrong, " ".join(map(repr, line))


LOOPS = {
    nothing: len(COMMANDS),
    kills: 40,
    signals: 40,
    writes: 1_000,
    limits: 60,
    pictures: 100_000,
    sets: 5_000,
    files: 150,
    words: 2_000,
}


def mutated(content, rng):
    """Some bytes of a file changed, a part of it cut out, doubled, or zeroed."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        if not content:
            break
        start = rng.randrange(len(content))
        part = slice(start, start + rng.randint(1, max(1, len(content) // 4)))
        way = rng.randrange(5)
        if way == 0:
            content[start] = rng.randrange(256)
        elif way == 1:
            content[start] ^= 1 << rng.randrange(8)
        elif way == 2:
            del content[part]
        elif way == 3:
            content[start:start] = content[part]
        else:
            content[part] = bytes(len(content[part]))
    return bytes(content)


def _size():
    """Bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def run(loop, place, times, *, seed=0, tell=print):
    """Runs a loop; returns how often it was tried, and what did not survive."""
    tried, failed = 0, []
    for wrong, what in loop(place, random.Random(seed), times):
        tried += 1
        if wrong:
            failed.append(f"{what}: {wrong}")
            tell(f"{loop.__name__}: {failed[-1]}")
    return tried, failed


@contextmanager
def a_place():
    """The `Place` of all loops; afterwards, folder and environment of this process are as they were."""
    with tempfile.TemporaryDirectory() as folder:
        here, environment = Path.cwd(), dict(os.environ)
        try:
            yield Place(Path(folder).resolve())
        finally:
            os.chdir(here)
            os.environ.clear()
            os.environ |= environment


def without_measuring():
    """What every child is spared: the map of the report, and the choice of a precision."""

    def no_map(points):
        raise UserError("no map")

    analysis.umap_map = no_map
    precision.product_rates = lambda dim, hidden: precision.Rates(1e9, 1e9)


def table(rows):
    lines = ["| what was done, in loops | tried | survived |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {words} | {tried:,} | {tried - failed:,} |" for words, tried, failed in rows)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, help="the document whose table is replaced")
    parser.add_argument("--only", nargs="*", default=[loop.__name__ for loop in LOOPS], help="some of the loops")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of tries")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    without_measuring()
    found = []
    with a_place() as place:
        for loop, times in LOOPS.items():
            if loop.__name__ in asked.only:
                began = time.monotonic()
                times = times if loop is nothing else max(1, round(asked.share * times))
                tried, failed = run(loop, place, times, seed=asked.seed)
                found.append((loop.__doc__, tried, len(failed)))
                seconds = time.monotonic() - began
                print(f"{loop.__name__}: {tried - len(failed):,} of {tried:,} survived, {seconds:,.0f} s", flush=True)
    if asked.write:
        head, mark, rest = asked.write.read_text(encoding="utf-8").partition("<!-- faults -->\n")
        _, end, tail = rest.partition("<!-- /faults -->")
        assert mark and end, "the document has no place for the table"
        asked.write.write_text(f"{head}{mark}\n{table(found)}\n\n{end}{tail}", encoding="utf-8")
    sys.exit(any(failed for *_, failed in found))
