"""Shared by the programs that measure speed: training steps, alternating timing, memory, operations, tables."""

import ctypes
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from gfnet_pl import GFNet
from gfnet_pl.data.batches import Batch
from gfnet_pl.processes import keep_freed_memory
from gfnet_pl.training.micro_batches import in_parts, largest_activation, mean_loss

CLASSES = 28
SIDE = 2048  # of the square matrices whose product is the machine's rate


class Step:
    """A training step of a net as in `gfnet fit`: loss, gradients, clipping, AdamW.

    A `GFNet` processes its batch in parts and keeps freed memory, as `gfnet` does. Any other net processes the whole
    batch, with glibc's default settings.
    """

    def __init__(self, net: nn.Module, batch_size: int, *, bf16: bool, side: int = 96, whole: bool = False) -> None:
        self.net, self.bf16, self.whole = net, bf16, whole
        self.ours = isinstance(net, GFNet)
        self.device = next(net.parameters()).device
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
        images = torch.randint(0, 256, (batch_size, 1, side, side), dtype=torch.uint8, device=self.device)
        self.batch = Batch(images, torch.randint(0, CLASSES, (batch_size,), device=self.device))
        self.memory = 0  # peak bytes of a watched call, minus those in use before

    def parts(self) -> list[Batch]:
        if not self.ours or self.whole:
            return [self.batch]
        return in_parts(self.batch, largest_activation(self.net), self.device)

    def settle(self) -> None:
        """Runs one part, so that its memory is allocated."""
        self.loss(self.parts()[0]).backward()

    def loss(self, part: Batch) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.net(part.images)
        return F.cross_entropy(logits.float(), part.labels)

    def __call__(self) -> None:
        self.net.train()
        loss = mean_loss(self.loss, self.parts(), list(self.net.parameters()))
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()


class Inference(Step):
    """Logits of a batch, without gradients."""

    def __call__(self) -> None:
        for part in self.parts():
            self.answer(part)

    def settle(self) -> None:
        self.answer(self.parts()[0])

    def answer(self, part: Batch) -> None:
        self.net.eval()
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            self.net(part.images)


def use_memory(job: Step, kept: bool) -> None:
    """Puts the process's memory into the state that it would have if it ran nothing but this step.

    With `kept`, freed memory stays with the process, and there is enough of it for a part of the batch. Without it,
    freed memory goes back to the system, as glibc does by default after it has freed a large block.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return
    if kept:
        keep_freed_memory()
        job.settle()
    else:
        library.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD: glibc's own maximum
        library.mallopt(-1, 2**26)  # M_TRIM_THRESHOLD: twice that
        library.malloc_trim(0)


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(job: Callable[[], None], kept: bool | None = None, watch: bool = False) -> float:
    """Seconds of one call.

    Args:
        job: A step, or any function.
        kept: Whether a step keeps freed memory; default: as its net does in practice.
        watch: Also record the step's peak memory.
    """
    if isinstance(job, Step):
        use_memory(job, job.ours if kept is None else kept)
    before = held(job) if watch and isinstance(job, Step) else 0
    wait()
    start = time.perf_counter()
    job()
    wait()
    took = time.perf_counter() - start
    if watch and isinstance(job, Step):
        on_gpu = job.device.type == "cuda"
        job.memory = (torch.cuda.max_memory_allocated() if on_gpu else resident("VmHWM")) - before
    return took


def in_turn(jobs: dict[str, Callable[[], None]], rounds: int, *, warm_up: int = 1) -> dict[str, list[float]]:
    """Seconds of each job, run alternately (A B A B), without the warm-up rounds. Use their median."""
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(warm_up + rounds):
        for name, job in jobs.items():
            took = seconds(job, watch=turn == 0)
            if turn >= warm_up:
                found[name].append(took)
    return found


def held(job: Step) -> int:
    """Bytes in use: resident memory on a CPU, torch's own on a GPU. Resets the peak."""
    if job.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)  # otherwise free memory would count as in use
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def resident(entry: str) -> int:
    """Bytes of an entry in Linux's /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(entry))


def flops(net: nn.Module, side: int = 96) -> int:
    """Operations of one image forward, by torch's counter: a multiply-add is two. FFTs are not counted."""
    device = next(net.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 1, side, side, device=device))
    return counter.get_total_flops()


def matmul_rate(dtype: torch.dtype, device: torch.device | str = "cpu", rounds: int = 7) -> float:
    """Operations per second of torch's own product of two square matrices: the most that a net could reach."""
    a, b = (torch.randn(SIDE, SIDE, device=device).to(dtype) for _ in range(2))
    took = in_turn({"": lambda: a @ b}, rounds, warm_up=2)[""]
    return 2 * SIDE**3 / statistics.median(took)


KINDS = {  # of operations in a profile, by the names of torch's kernels
    "linear layers": ("aten::mm", "aten::addmm"),
    "filter: matrix products": ("aten::bmm", "aten::baddbmm"),
    "filter: FFT": ("aten::_fft_r2c", "aten::_fft_c2r", "aten::_fft_c2c"),
    "dropout: random numbers": ("aten::bernoulli_", "random numbers", "aten::random_", "aten::native_dropout"),
    "GELU": ("aten::gelu", "aten::gelu_backward"),
    "LayerNorm": ("aten::native_layer_norm", "aten::native_layer_norm_backward"),
    "products, sums and copies": (
        *("aten::mul", "aten::mul_", "aten::add", "aten::add_", "aten::sub", "aten::div", "aten::div_", "aten::copy_"),
        *("aten::cat", "aten::sum", "aten::ge_", "aten::neg", "aten::fill_", "aten::addcmul_", "aten::lerp_"),
    ),
}


def shares(job: Step, calls: int = 1) -> dict[str, float]:
    """Milliseconds per image by kind of operation."""
    use_memory(job, job.ours)
    job()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    with profile(activities=activities) as found:
        for _ in range(calls):
            job()
    on_gpu = job.device.type == "cuda"
    took = {
        event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total
        for event in found.key_averages()
        if event.device_type == DeviceType.CPU  # a GPU's kernels are listed once more by their own names
    }
    per_image = 1000 * calls * len(job.batch.labels)
    table = {kind: sum(took.pop(key, 0) for key in keys) / per_image for kind, keys in KINDS.items()}
    return table | {"the rest": sum(took.values()) / per_image}


def spread(times: Sequence[float]) -> float:
    """The largest deviation from the median, as a share of the median."""
    median = statistics.median(times)
    return max(abs(one / median - 1) for one in times)


def precision(bf16: bool) -> str:
    return "bf16" if bf16 else "float32"


@contextmanager
def one_thread() -> Iterator[None]:
    """Limits torch to one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def number(value: float) -> str:
    """A number with three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *rows))


def write_between(path: Path, mark: str, text: str) -> None:
    """Replaces the text between `<!-- mark -->` and `<!-- end of mark -->` in a document."""
    before, start, rest = path.read_text("utf-8").partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition(f"<!-- end of {mark} -->")
    if not end:
        raise SystemExit(f"{path}: has no place marked {mark!r}")
    path.write_text(f"{before}{start}\n{text}\n\n{end}{after}", "utf-8")
