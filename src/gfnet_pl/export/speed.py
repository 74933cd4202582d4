"""How fast each format is on this machine. Each is measured in a process of its own, so that its memory is its own."""

import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gfnet_pl.export.runtime import BATCH, Images, OnnxRuntime, Runtime, TorchRuntime
from gfnet_pl.messages import follow
from gfnet_pl.processes import cores, in_processes

SECONDS = 2.0
_LEAST, _MOST = 5, 200  # runs


@dataclass(frozen=True)
class Speed:
    """The speed of a format.

    Attributes:
        name: The file.
        bytes: Its size.
        one: Milliseconds for one picture on one core, the median.
        one_95: The 95th percentile of them.
        per_second: Pictures per second in batches of `BATCH`, on all cores.
        memory: Peak memory in bytes of a process that does only this; 0 if the system does not say.
    """

    name: str
    bytes: int
    one: float
    one_95: float
    per_second: float
    memory: int


def speeds(files: list[Path], shape: tuple[int, ...], seconds: float = SECONDS) -> list[Speed]:
    """Measures a checkpoint (by PyTorch, in float32) and ONNX files, one after another.

    Args:
        files: Paths that end in .ckpt or .onnx.
        shape: (C, height, width) of a picture.
        seconds: For each measurement; slow nets take longer.
    """
    found = []
    for file in follow(files, "measuring the speed"):
        with closing(in_processes(measure, [str(file)], shape, seconds, processes=1)) as answers:
            found += [Speed(**value) for value, _ in answers]
    return found


def measure(path: str, shape: tuple[int, ...], seconds: float) -> tuple[dict[str, Any], bytes]:
    """A child process's work."""
    file = Path(path)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, *shape), np.uint8)
    alone = _times(_runtime(file, 1), images[:1], seconds)
    together = _times(_runtime(file, cores()), images, seconds)
    speed = Speed(
        name=file.name,
        bytes=file.stat().st_size,
        one=1000 * float(np.median(alone)),
        one_95=1000 * float(np.quantile(alone, 0.95)),
        per_second=BATCH / float(np.median(together)),
        memory=_peak_memory(),
    )
    return asdict(speed), b""


def _runtime(file: Path, threads: int) -> Runtime:
    if file.suffix == ".onnx":
        return OnnxRuntime(file, threads)
    import torch  # here, so that the memory of the others is without it

    from gfnet_pl.evaluation.calibration import Calibration
    from gfnet_pl.export.graph import Exported
    from gfnet_pl.run.checkpoint import Checkpoint

    torch.set_num_threads(threads)
    return TorchRuntime(Exported(Checkpoint.load(file).net(), Calibration()))


def _times(runtime: Runtime, images: Images, seconds: float) -> list[float]:
    """Seconds of each run, without the first two."""
    for _ in range(2):
        runtime(images)
    times: list[float] = []
    while len(times) < _LEAST or (len(times) < _MOST and sum(times) < seconds):
        began = time.perf_counter()
        runtime(images)
        times.append(time.perf_counter() - began)
    return times


def _peak_memory() -> int:
    status = Path("/proc/self/status")  # getrusage would also count the parent, from which this process came
    if status.is_file():
        lines = [line.split() for line in status.read_text(encoding="utf-8").splitlines()]
        return next((1024 * int(words[1]) for words in lines if words[:1] == ["VmHWM:"]), 0)
    return 0
