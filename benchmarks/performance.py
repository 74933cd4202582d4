"""How fast GFNet trains and predicts, against the same net in plain PyTorch, a transformer, and the machine's limit.

    make bench

All nets run in one process, alternately (A B A B …). A figure is the median after a warm-up that does not count, ± the
largest deviation from it. A training step is that of `gfnet fit`: forward, backward, clipped gradients, AdamW, with
dropout 0.2 in the base net. "Share of the matmul rate" compares with torch's own rate for a product of two 2048 x 2048
matrices in the same precision. It counts the operations of the textbook net; a Fourier transform counts as zero
operations in both. Memory is the peak of the process's resident memory minus the memory in use before the step.

The textbook net and the transformer are trained as a script without this project would do it: with whole batches, and
with glibc's default handling of memory.
"""

import argparse
import copy
import statistics
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import torch
from matplotlib.figure import Figure
from measuring import (
    KINDS,
    Inference,
    Step,
    flops,
    in_turn,
    markdown,
    matmul_rate,
    number,
    one_thread,
    precision,
    seconds,
    shares,
    spread,
    write_between,
)
from textbook import TextbookFilter, TextbookGFNet, ViT
from torch import Tensor, nn

from gfnet_pl import GFNet
from gfnet_pl.model import dropout
from gfnet_pl.model.gfnet import Block, Stem

NAMES = {GFNet: "GFNet", TextbookGFNet: "textbook GFNet", ViT: "ViT"}


def nets(dim: int, depth: int, dropout: float, stem: Stem = "patch") -> tuple[nn.Module, nn.Module, nn.Module]:
    """GFNet, the textbook net with the same weights, and a ViT with about as many operations."""
    ours = GFNet(dim=dim, depth=depth, dropout=dropout, stem=stem)
    ours.set_normalisation([127.5], [74])
    plain = TextbookGFNet(dim=dim, depth=depth, dropout=dropout, stem=stem)
    plain.load_state_dict(ours.state_dict())
    if dim == 256:
        return ours, plain, ViT(dim=192, depth=depth, heads=3, dropout=dropout, stem=stem)
    return ours, plain, ViT(dim=dim, depth=max(1, depth - 1), heads=max(1, dim // 32), dropout=dropout, stem=stem)


class Table:
    """Images per second of the nets in both precisions, and their ratios to the textbook net."""

    def __init__(self, kind: type[Step], subjects: Sequence[nn.Module], batch_size: int, *rounds: int) -> None:
        """rounds: one number for both precisions, or one for float32 and one for bf16."""
        self.batch_size = batch_size
        self.jobs = {
            (NAMES[type(net)], bf16): kind(net, batch_size, bf16=bf16) for bf16 in (False, True) for net in subjects
        }
        for net in subjects:  # a small batch warms up as well as a large one
            for bf16 in (False, True):
                seconds(kind(net, min(16, batch_size), bf16=bf16))
        took = {}
        for bf16 in (False, True):
            jobs = {str(key): job for key, job in self.jobs.items() if key[1] == bf16}
            took |= in_turn(jobs, rounds[-1] if bf16 else rounds[0], warm_up=0)
        self.times = {key: took[str(key)] for key in self.jobs}
        self.rates = {key: batch_size / statistics.median(times) for key, times in self.times.items()}

    def markdown(self, operations: dict[str, float], limits: dict[bool, float], memory: bool) -> str:
        """operations: per image, by the net's name; limits: operations per second, the key says whether it is bf16."""
        rows = []
        for (name, bf16), rate in self.rates.items():
            reference = [self.rates["textbook GFNet", other] for other in (False, bf16)]
            row = [name, precision(bf16), f"{number(rate)} ± {100 * spread(self.times[name, bf16]):.0f} %"]
            row += [f"{100 * rate * operations[name] / limits[bf16]:.0f} %"]
            row += [f"{rate / other:.2f}" for other in reference]
            rows.append([*row, f"{self.jobs[name, bf16].memory / 1e9:.2f}"] if memory else row)
        header = [
            "net",
            "precision",
            "images/s",
            "share of the matmul rate",
            "times textbook, float32",
            "times textbook, same precision",
        ]
        return markdown([*header, "memory, GB"] if memory else header, rows)


# Alternatives to a part of the net, or of a step.


class OneMatrixFilter(nn.Module):
    """The two-dimensional transform as one matrix product, as in an earlier version of this project."""

    def __init__(self, other: nn.Module) -> None:
        super().__init__()
        self.complex_weight = other.complex_weight
        self.map_size = height, width = other.map_size
        impulses = torch.eye(height * width, dtype=torch.float64).reshape(-1, height, width)
        spectra = torch.fft.rfft2(impulses, norm="ortho").flatten(1)
        waves = torch.eye(spectra.shape[1], dtype=torch.complex128).reshape(-1, height, width // 2 + 1)
        back = torch.fft.irfft2(torch.cat((waves, 1j * waves)), s=other.map_size, norm="ortho").flatten(1)
        self.register_buffer("to_spectrum", torch.cat((spectra.real, spectra.imag), dim=1).mT.float().contiguous())
        self.register_buffer("from_spectrum", back.mT.float().contiguous())

    def forward(self, x: Tensor) -> Tensor:
        real, imag = (self.to_spectrum @ x).chunk(2, dim=1)
        a, b = self.complex_weight.flatten(0, 1).to(real.dtype).movedim(-1, 0).contiguous()
        return self.from_spectrum @ torch.cat((real * a - imag * b, real * b + imag * a), dim=1)


def textbook_filter(other: nn.Module) -> nn.Module:
    plain = TextbookFilter(other.complex_weight.shape[2], other.map_size)
    plain.complex_weight = other.complex_weight
    return plain


def with_torchs_numbers(x: Tensor, p: float) -> Tensor:
    """The factors of dropout from torch's own generator."""
    draws = torch.empty(-(-x.nbytes // 8), dtype=torch.int64).random_(-(2**63), None)
    with patch.object(
        dropout.np.random, "SFC64", lambda seed: types.SimpleNamespace(random_raw=lambda n: draws.numpy())
    ):
        return FACTORS(x, p)


FACTORS = dropout._factors


def altered(net: GFNet, block: Callable[[Block], None]) -> GFNet:
    """A copy of the net with each of its blocks changed."""
    other = copy.deepcopy(net)
    for each in other.blocks:
        block(each)
    return other


def native_dropout(block: Block) -> None:
    block.mlp.drop = nn.Dropout(block.mlp.drop.p)


def native_norms(block: Block) -> None:
    """PyTorch's LayerNorm: on a CPU, it sums the gradients of its weights in the precision of the tokens."""
    for name in ("norm1", "norm2"):
        norm = nn.LayerNorm(block.norm1.weight.shape, eps=1e-6)
        norm.load_state_dict(getattr(block, name).state_dict())
        setattr(block, name, norm)


class FloatStream(GFNet):
    """A GFNet whose residual stream stays in float32."""

    def features(self, images: Tensor) -> Tensor:
        x = self.pos_drop(self.patch_embed(self.normalise(images)).float() + self.pos_embed)
        for block in self.blocks:
            x = block(x)
        return self.norm(x).mean(1)


def float_stream(net: GFNet) -> GFNet:
    other = copy.deepcopy(net)
    other.__class__ = FloatStream
    return other


def put(name: str, part: Callable[[nn.Module], nn.Module]) -> Callable[[Block], None]:
    return lambda block: setattr(block, name, part(getattr(block, name)))


class TorchsNumbers(Step):
    """A step whose dropout draws its numbers from torch's own generator."""

    def __call__(self) -> None:
        with patch.object(dropout, "_factors", with_torchs_numbers):
            super().__call__()


def alternatives(net: GFNet, batch_size: int, *, bf16: bool, rounds: int) -> list[list[str]]:
    """Rows of: the change, and the time of a step with it, divided by the time without it."""

    def step(other: nn.Module = net, kind: type[Step] = Step) -> Step:
        return kind(other, batch_size, bf16=bf16)

    drops = net.blocks[0].mlp.drop.p > 0
    jobs: dict[str, Callable[[], None]] = {
        "as it is": step(),
        "the filter by rfft2": step(altered(net, put("filter", textbook_filter))),
        "the filter as one matrix": step(altered(net, put("filter", OneMatrixFilter))),
        "PyTorch's dropout": step(altered(net, native_dropout)),
        "dropout by PyTorch's random numbers": step(kind=TorchsNumbers),
        "PyTorch's LayerNorm (wrong gradients in bf16)": step(altered(net, native_norms)),
        "the residual stream in float32": step(float_stream(net)),
    }
    if not drops:
        jobs = {name: job for name, job in jobs.items() if "dropout" not in name}
    if not bf16:
        jobs = {name: job for name, job in jobs.items() if "Norm" not in name and "stream" not in name}
    took = in_turn(jobs, rounds)
    usual = took["as it is"]
    one = step()
    plain = [seconds(one, kept=False) / seconds(one, kept=True) for _ in range(rounds)]
    paired = {name: [a / b for a, b in zip(took[name], usual, strict=True)] for name in jobs if name != "as it is"}
    paired["glibc's own memory"] = plain
    return [[name, f"{statistics.median(ratios):.2f}"] for name, ratios in paired.items()]


def alternatives_table(columns: dict[str, list[list[str]]]) -> str:
    names = list(dict.fromkeys(name for rows in columns.values() for name, _ in rows))
    cells = [dict(rows) for rows in columns.values()]  # type: ignore[arg-type]
    return markdown(["change", *columns], [[n, *(c.get(n, "") for c in cells)] for n in names])


def numerics(ours: GFNet, plain: nn.Module, images: int) -> str:
    """Relative errors against the textbook net in float64."""
    torch.manual_seed(0)
    plain.load_state_dict(ours.state_dict())  # both nets have been trained since
    batch = torch.randint(0, 256, (images, 1, 96, 96), dtype=torch.uint8)
    labels = torch.randint(0, 28, (images,))

    def run(net: nn.Module, bf16: bool, double: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        net = copy.deepcopy(net).eval()  # without dropout
        if double:
            net = net.double()
            for block in net.blocks:
                block.filter.forward = types.MethodType(in_double, block.filter)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = net(batch.double() if double else batch)
        nn.functional.cross_entropy(logits.double(), labels).backward()
        gradients = {name: parameter.grad.flatten().double() for name, parameter in net.named_parameters()}
        norms = [gradient for name, gradient in gradients.items() if "norm" in name]
        others = [gradient for name, gradient in gradients.items() if "norm" not in name]
        return logits.detach().double(), torch.cat(others), torch.cat(norms)

    def in_double(self: TextbookFilter, x: Tensor) -> Tensor:
        tokens = x.reshape(len(x), *self.map_size, -1)
        spectrum = torch.fft.rfft2(tokens, dim=(1, 2), norm="ortho") * torch.view_as_complex(self.complex_weight)
        return torch.fft.irfft2(spectrum, s=self.map_size, dim=(1, 2), norm="ortho").reshape(x.shape)

    with patch.object(plain, "embed", types.MethodType(embed_in_double, plain)):
        reference = run(plain, False, double=True)
    rows = []
    for name, net in (("GFNet", ours), ("textbook GFNet", plain)):
        for bf16 in (False, True):
            found = run(net, bf16)
            errors = [((a - b).norm() / b.norm()).item() for a, b in zip(found, reference, strict=True)]
            rows.append([name, precision(bf16), *(f"{error:.1e}" for error in errors)])
    return markdown(["net", "precision", "logits", "gradients except LayerNorm's", "LayerNorm's gradients"], rows)


def embed_in_double(self: nn.Module, images: Tensor) -> Tensor:
    x = (images - self.mean[:, None, None]) / self.std[:, None, None]
    return self.patch_embed["proj"](x).flatten(2).transpose(1, 2) + self.pos_embed


def profile_table(profiles: dict[str, dict[str, float]]) -> str:
    rows = []
    for kind in [*KINDS, "the rest"]:
        cells = [f"{each[kind]:.2f} ({100 * each[kind] / sum(each.values()):.0f} %)" for each in profiles.values()]
        rows.append([kind, *cells])
    rows.append(["sum", *(f"{sum(each.values()):.1f}" for each in profiles.values())])
    return markdown(["ms per image (share)", *profiles], rows)


def plot(training: Table, inference: Table, profiles: dict[str, dict[str, float]], path: Path) -> None:
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    bars, stacks = figure.subplots(1, 2, width_ratios=[1, 1.25])
    colours = {False: "0.65", True: "C0"}
    for number_, (title, table) in enumerate((("training", training), ("inference", inference))):
        keys = [key for key in table.rates if key[0] != "ViT"]
        for row, key in enumerate(reversed(keys)):
            place = row + number_ * (len(keys) + 1)
            bars.barh(place, table.rates[key], color=colours[key[0] == "GFNet"])
            bars.annotate(f" {number(table.rates[key])}", (table.rates[key], place), va="center", fontsize=9)
            label = f"{title}, {key[0]}, {precision(key[1])}"
            bars.annotate(
                label, (0, place), xytext=(-4, 0), textcoords="offset points", ha="right", va="center", fontsize=9
            )
    bars.set_title("images/s", loc="left", fontsize=10)
    bars.set_yticks([])
    bars.spines[["top", "right", "left"]].set_visible(False)
    for row, (name, each) in enumerate(reversed(profiles.items())):
        left = 0.0
        for index, (kind, took) in enumerate(each.items()):
            stacks.barh(row, took, 0.55, left=left, color=f"C{index}", label=kind if row == 0 else None)
            left += took
        stacks.annotate(f" {left:.0f}", (left, row), va="center", fontsize=9)
        stacks.annotate(name, (0, row + 0.3), va="bottom", fontsize=9)
    stacks.set_title("a training step, ms per image", loc="left", fontsize=10)
    stacks.set_yticks([])
    stacks.set_ylim(-0.5, len(profiles) - 0.3)
    stacks.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(*stacks.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path)


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=int, nargs=2, default=[256, 12], metavar=("DIM", "DEPTH"))
    parser.add_argument("--quick", type=int, nargs=2, default=[96, 4], metavar=("DIM", "DEPTH"))
    parser.add_argument("--batch-size", type=int, default=256, help="the largest batch of the base net's training")
    parser.add_argument("--smaller", type=int, default=64, help="batch of everything else of the base net")
    parser.add_argument("--quick-batch", type=int, default=32, help="batch of the quick net")
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds; the largest steps have one in float32 and two in bf16"
    )
    parser.add_argument("--write", type=Path, help="write the tables into this document, between its markers")
    parser.add_argument("--plot", type=Path, help="write the picture to this file")
    options = parser.parse_args(args)

    torch.manual_seed(0)
    limits = {bf16: matmul_rate(torch.bfloat16 if bf16 else torch.float32) for bf16 in (False, True)}
    base, quick = nets(*options.base, dropout=0.2), nets(*options.quick, dropout=0.0, stem="conv")
    text = [
        f"torch {torch.__version__}, {torch.get_num_threads()} threads. torch's matmul rate (2048 x 2048): float32 "
        f"{limits[False] / 1e9:.0f}, bf16 {limits[True] / 1e9:.0f} GFLOP/s."
    ]

    def section(title: str, table: str) -> None:
        text.append(f"**{title}**\n\n{table}")
        print(f"\n{text[-1]}", flush=True)

    print(text[0])
    for kind, factor in ((Step, 3), (Inference, 1)):  # backward has twice the operations of forward
        for label, subjects in (("base", base), ("quick", quick)):
            counted = {NAMES[type(net)]: factor * flops(net) for net in subjects}
            counted["GFNet"] = counted["textbook GFNet"]
            each = ", ".join(f"{name} {value / 1e9:.2f}" for name, value in counted.items() if name != "GFNet")
            verb = "Training" if kind is Step else "Inference"
            batch_size = options.smaller if label == "base" else options.quick_batch
            table = Table(kind, subjects, batch_size, options.rounds * (5 if label == "quick" else 1))
            name = f"{verb}, {label} net, batch {table.batch_size} (GFLOP per image: {each})"
            section(name, table.markdown(counted, limits, memory=kind is Step))
            if label == "base" and kind is Step:
                training = Table(Step, base[:2], options.batch_size, 1, min(2, options.rounds))
                section(
                    f"{verb}, base net, batch {options.batch_size}", training.markdown(counted, limits, memory=True)
                )
            if label == "base" and kind is Inference:
                inference = table

    with one_thread():
        single = {
            f"{NAMES[type(net)]}, {precision(bf16)}": Inference(net, 1, bf16=bf16)
            for net in base
            for bf16 in (False, True)
        }
        took = in_turn(single, 6 * options.rounds, warm_up=3)
    rows = [[name, f"{1000 * statistics.median(times):.1f}"] for name, times in took.items()]
    section("One image on one core, base net", markdown(["net", "ms"], rows))

    with patch.object(dropout, "_factors", marked):
        profiles = {
            f"{NAMES[type(net)]}, {precision(bf16)}": shares(Step(net, options.smaller, bf16=bf16))
            for net in (base[1], base[0])
            for bf16 in (False, True)
        }
    section("Where a training step's time goes, base net", profile_table(profiles))

    part = min(28, options.smaller)  # what is processed at once
    columns = {
        f"base, bf16, batch {part}": alternatives(base[0], part, bf16=True, rounds=options.rounds),
        f"base, float32, batch {part}": alternatives(base[0], part, bf16=False, rounds=min(2, options.rounds)),
        f"quick, bf16, batch {options.quick_batch}": alternatives(
            quick[0], options.quick_batch, bf16=True, rounds=5 * options.rounds
        ),
    }
    pair = {whole: seconds(Step(base[0], options.batch_size, bf16=True, whole=whole)) for whole in (True, False)}
    name, whole_batch = f"batch {options.batch_size} as a whole", f"{pair[True] / pair[False]:.2f}"
    columns[f"base, bf16, batch {options.batch_size}"] = [[name, whole_batch]]
    answer = Inference(base[0], options.smaller, bf16=True)
    ratios = [seconds(answer, kept=False) / seconds(answer, kept=True) for _ in range(1 + options.rounds)][1:]
    columns[f"inference, base, bf16, batch {options.smaller}"] = [
        ["glibc's own memory", f"{statistics.median(ratios):.2f}"]
    ]
    title = "Alternatives: time of a step with the change, divided by the time without it"
    section(title, alternatives_table(columns))
    section(
        "Numerics, base net, without dropout, against float64", numerics(base[0], base[1], min(16, options.smaller))
    )

    if options.write:
        write_between(options.write, "make bench", "\n\n".join(text))
    if options.plot:
        plot(training, inference, profiles, options.plot)


def marked(x: Tensor, p: float) -> Tensor:
    """The factors of dropout, under a name in the profile: NumPy's work would not appear there."""
    with torch.profiler.record_function("random numbers"):
        return FACTORS(x, p)


if __name__ == "__main__":
    main()
