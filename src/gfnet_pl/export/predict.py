"""`gfnet predict PATH…`: a line for each picture, written as it comes.

Child processes decode, a thread for each device runs the net, and the command's own thread writes. So decoding and the
net overlap, and a few batches are in memory at a time, however many pictures there are.

Where `torchrun` starts several processes, each takes its share of the pictures and writes a file of its own.
"""

import argparse
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from itertools import chain, count
from pathlib import Path
from typing import IO, Any

from rich.console import Console

from gfnet_pl.data.decode import BrokenPicture, Decoded, decoded
from gfnet_pl.data.named import find_pictures
from gfnet_pl.errors import OneLineParser, UserError, check_range
from gfnet_pl.evaluation.enrolment import Enrolment
from gfnet_pl.export.classifier import TOP, Classifier
from gfnet_pl.export.enrol import load
from gfnet_pl.export.predictions import FORMATS, Classified, predictions_table, write_classified, write_heading
from gfnet_pl.export.runtime import Outputs, Runtime, TorchRuntime, batch_of, channels_first
from gfnet_pl.files import check_output, growing, part_of, refuse_url
from gfnet_pl.messages import LiveLine, time_left
from gfnet_pl.run.enrolled import enrolled_file, read_enrolment
from gfnet_pl.run.folder import PREDICTIONS

log = logging.getLogger(__name__)

_TABLE = 20  # predictions in the terminal; more are only in the file
_ACCELERATORS = ("auto", "cpu", "gpu")
_STILL = ("--trainer.accelerator", "--trainer.devices")  # as they were called before
_OLD_PATHS = "--data.predict_paths"  # before the pictures, once
_OLD = ("--trainer.", "--data.", "--model.", "--tf32", "--config", "--seed_everything", "--stage")
_HELP = """Classifies pictures, those in folders, in packed files and of globs: a line each with path, prediction,
probability, the likeliest classes, whether to accept it and the reason, also for a picture that cannot be read. Up to
20 are shown. A run's export is used if it is of the same net; otherwise its checkpoint."""


def run_predict(args: list[str]) -> None:
    """Runs `gfnet predict`.

    Args:
        args: The words after `gfnet predict`.

    Raises:
        UserError: The command line is wrong, there is no such net or picture, or no picture can be read.
    """
    values = _parsed(args)
    rank, ranks = _share()
    classifier, runtimes = _net(values)
    person = _person(values.person, classifier)
    pictures = find_pictures(values.paths)[rank::ranks]
    if not classifier.calibration.rejections:
        words = "%s has no calibration yet: probabilities are as the net gives them; gfnet test fits it"
        log.warning(words, classifier.file)
    began, broken, rows = time.monotonic(), 0, []
    with ExitStack() as stack:
        path, file, keep = _opened(stack, values, rank, ranks)
        line, done = LiveLine(), 0
        stack.callback(line.clear)
        batches = stack.enter_context(closing(_classified(classifier, runtimes, pictures, values.top, person)))
        try:
            for batch in batches:
                unread = [row for row in batch if row.prediction is None]
                if unread and values.on_broken == "error":
                    raise BrokenPicture(unread[0].path, unread[0].reason)
                if not done:
                    write_heading(file, values.format, values.top)
                write_classified(file, values.format, batch)
                keep()
                done, broken = done + len(batch), broken + len(unread)
                if len(pictures) <= _TABLE or broken == done:
                    rows += batch
                if line.is_due():
                    line.draw("predicting", done, len(pictures), time_left(began, done, len(pictures)))
        except BaseException:
            if done and path:
                log.warning("the first %s of %s are in %s", f"{done:,}", f"{len(pictures):,}", part_of(path))
            raise
    if len(pictures) <= _TABLE and path:
        Console().print(predictions_table(rows))
    unread_too = f"; {broken:,} cannot be read" if broken else ""
    words = "%s pictures by %s%s: %s"
    log.info(words, f"{len(pictures):,}", classifier.file, unread_too, path or "on standard output")
    if pictures and broken == len(pictures):
        raise UserError(f"none of the {len(pictures):,} pictures can be read, first {rows[0].path} ({rows[0].reason})")


def _parsed(args: list[str]) -> argparse.Namespace:
    parser = OneLineParser("gfnet predict", description=_HELP)
    parser.add_argument("paths", metavar="PATH", nargs="*", help="pictures, folders, packed files, globs")
    words = "a checkpoint, or the folder of a run or an export; default: the newest run"
    parser.add_argument("--ckpt_path", metavar="FILE", help=words)
    words = "written anew; - is standard output; default: predictions.csv, or predictions-2.csv and so on"
    parser.add_argument("--out", metavar="FILE", help=words)
    words = "default: jsonl if --out ends so, else csv"
    parser.add_argument("--format", choices=FORMATS, help=words)
    parser.add_argument("--top", metavar="K", type=int, default=TOP, help="how many classes a line has (default 3)")
    words = "whose pictures they are, after gfnet enrol: the name, or the file"
    parser.add_argument("--person", metavar="NAME", help=words)
    words = "list: a picture that cannot be read has a line with the reason; error: stop there (default list)"
    parser.add_argument("--on_broken", choices=("list", "error"), default="list", help=words)
    words = "gpu: PyTorch on a GPU; cpu; auto: the export on the CPU where there is one, else a GPU if there is one"
    parser.add_argument("--accelerator", choices=_ACCELERATORS, default="auto", help=words)
    parser.add_argument("--devices", metavar="N", type=int, default=1, help="of so many GPUs (default 1)")
    parser.add_argument("--help-all", action="help", help=argparse.SUPPRESS)
    for old in _STILL:
        kind: dict[str, Any] = {"type": int} if old.endswith("devices") else {"choices": _ACCELERATORS}
        name = old.removeprefix("--trainer.")
        parser.add_argument(old, dest=name, help=argparse.SUPPRESS, default=argparse.SUPPRESS, **kind)
    words_before = [word.removeprefix(f"{_OLD_PATHS}=") for word in args if word != _OLD_PATHS]
    for word in words_before:
        name = word.partition("=")[0]
        if name.startswith(_OLD) and name not in _STILL:
            raise UserError(f"gfnet predict has no {name}: the net brings what it needs; drop it")
    values = parser.parse_intermixed_args(words_before)
    if not values.paths:
        raise UserError("gfnet predict: name pictures, folders or globs, as in gfnet predict photo.jpg")
    for path in values.paths:
        refuse_url("gfnet predict", path)  # before the net is looked for: another net would not help
    check_range("--top", values.top, least=1)
    check_range("--devices", values.devices, least=1)
    values.format = values.format or ("jsonl" if str(values.out).endswith(".jsonl") else "csv")
    if values.out is not None and values.out != "-":
        check_output("--out", values.out)
    elif values.out is None:
        check_output("--out", PREDICTIONS)
    return values


def _share() -> tuple[int, int]:
    """The number of this process and of all that `torchrun` has started: each takes every so many-th picture."""
    with suppress(KeyError, ValueError):
        rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        if 0 <= rank < ranks:
            return rank, ranks
    return 0, 1


def _net(values: argparse.Namespace) -> tuple[Classifier, list[Runtime]]:
    """The net, and what runs it: one for each device."""
    classifier = load(values.ckpt_path, by_torch=values.accelerator == "gpu")
    if not isinstance(classifier.runtime, TorchRuntime) or values.accelerator == "cpu":
        gpus = []
    elif not (gpus := _gpus()) and values.accelerator == "gpu":
        raise UserError("--accelerator gpu: PyTorch finds no GPU here; drop it")
    if not gpus and values.devices > 1:
        raise UserError(f"--devices {values.devices} is a number of GPUs; on a CPU all cores work anyway: drop it")
    if not gpus:
        return classifier, [classifier.runtime]
    if values.devices > len(gpus):
        raise UserError(f"--devices {values.devices}: there are {len(gpus)} GPUs")
    assert isinstance(classifier.runtime, TorchRuntime)
    first = int(os.environ.get("LOCAL_RANK", 0))  # each process of a machine has its own
    return classifier, [classifier.runtime.on(gpus[(first + each) % len(gpus)]) for each in range(values.devices)]


def _person(name: str | None, classifier: Classifier) -> Enrolment | None:
    if name is None:
        return None
    file = Path(name) if name.endswith(".npz") else enrolled_file(classifier.file, name)
    return read_enrolment(file, classifier.classes, classifier.digest)


def _gpus() -> list[str]:
    """The devices of this machine besides its CPU, as PyTorch calls them."""
    import torch

    if (kind := torch.accelerator.current_accelerator(check_available=True)) is None:
        return []
    return [f"{kind.type}:{number}" for number in range(torch.accelerator.device_count())]


def _opened(
    stack: ExitStack, values: argparse.Namespace, rank: int, ranks: int
) -> tuple[Path | None, IO[str], Callable[[], None]]:
    """The file to write, its path (None for standard output), and a function that keeps what was written so far."""
    if values.out == "-":
        if ranks > 1:
            raise UserError("--out -: several processes would mix their lines; name a file")
        return None, sys.stdout, sys.stdout.flush
    wanted = Path(values.out or PREDICTIONS)
    if values.out is None:
        wanted = wanted.with_suffix(f".{values.format}")
    if ranks > 1:
        wanted = wanted.with_stem(f"{wanted.stem}-{rank + 1}-of-{ranks}")
        log.info("%d processes: each classifies its share of the pictures, the first one into %s", ranks, wanted)
    if values.out is not None:
        return wanted, *stack.enter_context(growing(wanted, over=True))
    numbered = (wanted.with_stem(f"{wanted.stem}-{number}") for number in count(2))
    for path in chain([wanted], numbered):
        if not os.path.lexists(path):
            with suppress(FileExistsError):  # another command is writing it, or was killed
                return path, *stack.enter_context(growing(path, over=False))
    raise AssertionError


def _classified(
    classifier: Classifier, runtimes: Sequence[Runtime], pictures: Sequence[Path], top: int, person: Enrolment | None
) -> Generator[list[Classified], None, None]:
    """What the net says of the pictures, in their order, batch by batch."""
    canvas, paths = classifier.canvas, [str(path) for path in pictures]
    length, place = batch_of(canvas.height, canvas.width), 0
    decoding = decoded(paths, canvas, length=length, refused_too=True, title="")
    with closing(decoding) as chunks, closing(_run(runtimes, chunks, person)) as outputs:
        for chunk, found in outputs:
            unread = dict(chunk.broken)
            batch = []
            for position, prediction in enumerate(classifier.predictions(found, top=top, person=person)):
                path = paths[place + position]
                if (reason := unread.get(position)) is not None:
                    batch.append(Classified(path, None, reason))
                else:
                    batch.append(Classified(path, prediction, prediction.reason))
            yield batch
            place += len(batch)


def _run(
    runtimes: Sequence[Runtime], chunks: Iterator[Decoded], person: Enrolment | None
) -> Generator[tuple[Decoded, Outputs], None, None]:
    """Runs the nets in turn, each in a thread, while the next pictures are decoded."""
    waiting: deque[tuple[Decoded, Future[Outputs]]] = deque()
    with ThreadPoolExecutor(len(runtimes)) as pool:
        for number, chunk in enumerate(chunks):
            runtime = runtimes[number % len(runtimes)]
            images = person.seen(chunk.images) if person is not None else chunk.images
            waiting.append((chunk, pool.submit(runtime, channels_first(images))))
            if len(waiting) > len(runtimes):
                ready, outputs = waiting.popleft()
                yield ready, outputs.result()
        while waiting:
            ready, outputs = waiting.popleft()
            yield ready, outputs.result()
