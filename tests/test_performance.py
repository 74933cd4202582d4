"""The programs that measure speed, on tiny nets, and that what they compare gives the same."""

import importlib
import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from gfnet_pl import GFNet
from gfnet_pl.cli import main
from gfnet_pl.model import global_filter
from gfnet_pl.run.folder import newest_run

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY = {"dim": 16, "depth": 2, "dropout": 0.0}


@pytest.fixture
def program(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(importlib.import_module("measuring"), "SIDE", 64)  # bf16 takes minutes where it is emulated
    return importlib.import_module


def grey(images=3):
    torch.manual_seed(0)
    return torch.randint(0, 256, (images, 1, 96, 96), dtype=torch.uint8)


def results(net, images):
    """Logits, and gradients of all parameters by name."""
    logits = net(images)
    F.cross_entropy(logits, torch.arange(len(images))).backward()
    return {"logits": logits.detach()} | {name: parameter.grad for name, parameter in net.named_parameters()}


@pytest.mark.parametrize(("path", "stem"), [("matrices", "patch"), ("fft", "patch"), ("matrices", "conv")])
def test_our_net_and_the_textbook_one_are_the_same_function(program, path, stem, monkeypatch):
    monkeypatch.setattr(global_filter, "MATRIX_MAX_TOKENS", 10**6 if path == "matrices" else 0)
    ours, plain, _ = program("performance").nets(**TINY | {"stem": stem})
    expected, found = results(plain.eval(), grey()), results(ours.eval(), grey())
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert value.abs().max() > 1e-6, name
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5 * value.abs().max().item(), msg=name)


def test_the_levers_change_the_way_and_not_the_result(program):
    performance = program("performance")
    net = performance.nets(**TINY)[0].eval()
    expected = results(net, grey())
    for part in (performance.textbook_filter, performance.OneMatrixFilter):
        found = results(performance.altered(net, performance.put("filter", part)), grey())
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-6, msg=name)


def test_dropout_by_other_random_numbers_has_the_same_rate(program):
    performance = program("performance")
    x = torch.ones(1_000_000, dtype=torch.bfloat16)
    torch.manual_seed(0)
    dropped = performance.with_torchs_numbers(x, 0.2) == 0
    assert dropped.double().mean().item() == pytest.approx(0.2, abs=0.002)


def test_performance_writes_tables_and_a_plot(program, tmp_path, capsys):
    document = tmp_path / "performance.md"
    document.write_text("above\n<!-- make bench -->\nold\n<!-- end of make bench -->\nbelow\n")
    sizes = ["--base", "16", "2", "--quick", "16", "1", "--batch-size", "8", "--smaller", "4", "--rounds", "1"]
    sizes += ["--quick-batch", "4"]
    program("performance").main([*sizes, "--write", str(document), "--plot", str(tmp_path / "p.svg")])
    text = document.read_text()
    assert text.startswith("above\n")
    assert text.endswith("below\n")
    assert "old" not in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| textbook GFNet | float32 | ")]
    rated = [row for row in rows if "±" in row[2]]
    assert [row[4] for row in rated] == ["1.00"] * 5  # times itself
    assert all(name in text for name in ("ViT | bf16", "the filter by rfft2", "batch 8 as a whole", "LayerNorm"))
    (error,) = (row[2] for row in rows if "±" not in row[2])
    assert float(error) < 1e-5
    assert "<svg" in (tmp_path / "p.svg").read_text()


def test_growth_writes_exponents(program, tmp_path):
    document = tmp_path / "performance.md"
    document.write_text("<!-- growth -->\n<!-- end of growth -->")
    sizes = ["--batches", "1", "2", "--depths", "1", "2", "--sides", "96", "192", "--data", "100", "1000"]
    options = [
        "--dim",
        "8",
        "--depth",
        "1",
        "--rounds",
        "1",
        "--write",
        str(document),
        "--plot",
        str(tmp_path / "g.svg"),
    ]
    program("growth").main([*sizes, *options])
    assert document.read_text().count("exponent") == 4
    assert "<svg" in (tmp_path / "g.svg").read_text()


def test_the_gpus_program_runs_on_a_cpu(program, capsys):
    sizes = ["--base", "16", "2", "--batch-size", "4", "--rounds", "1", "--images", "50", "--backend", "eager"]
    program("gpu").main(sizes)
    text = capsys.readouterr().out
    for words in (
        "GFNet, compiled | bf16",
        "on the device",
        "TF32: there is none on a CPU",
        "linear layers",
        "on an A100",
    ):
        assert words in text


def test_the_arithmetic_of_the_limit_counts_what_is_there(program):
    line = program("gpu").limit(256, 12, batch_size=2).splitlines()[-1]
    precision, operations, moved, *minutes = line.strip("| ").split(" | ")
    assert (precision, operations) == ("bf16", "5.45")
    assert float(minutes[0]) == pytest.approx(223_000 * 20 * 5.445e9 / 312e12 / 60, abs=0.06)
    hidden = 144 * 1024 * 2 / 1e6  # MB of an MLP's hidden activation: at least 20 times read or written in a block
    assert float(moved) > 12 * 20 * hidden


def test_the_bare_loop_is_compared_with_gfnet_fit(program, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    program("overhead").main(["--epochs", "1", "--images", "96", "--trainer.enable_progress_bar=false"])
    assert "gfnet fit over bare loop: " in capsys.readouterr().out
    assert list(tmp_path.glob("runs")) == []


def test_a_document_without_a_place_for_the_table_is_left_alone(program, tmp_path):
    document = tmp_path / "other.md"
    document.write_text("words")
    with pytest.raises(SystemExit, match="has no place marked 'make bench'"):
        program("measuring").write_between(document, "make bench", "table")
    assert document.read_text() == "words"


def test_watched_memory_is_that_of_the_step(program):
    measuring = program("measuring")

    class Grab(measuring.Inference):
        def __call__(self):
            torch.ones(25_000_000)  # 100 MB

    job = Grab(GFNet(dim=8, depth=1), 1, bf16=False)
    measuring.seconds(job, watch=True)
    assert job.memory == pytest.approx(100e6, rel=0.1)


def test_nets_of_another_kind_learn_from_a_run_s_pictures_for_a_given_time(program, tiny, monkeypatch):
    peers = program("peers")
    assert main([*tiny, "--data.augment.shift=0.05"]) == 0
    torch.manual_seed(0)
    for name in peers.RATES:
        monkeypatch.setattr(peers, "perf_counter", itertools.count().__next__)  # each step takes a second
        data = peers.data_of(newest_run(), seed=0)
        assert data.augment.shift == 0.05
        net = peers.peer(name, data)
        assert sum(weights.numel() for weights in net.parameters()) < 900_000
        assert peers.train(net, data, seconds=61, rate=peers.RATES[name], bf16=False) == 60 * 16
        right, total = peers.score(net, data)
        assert total == 12
        assert right >= 9
