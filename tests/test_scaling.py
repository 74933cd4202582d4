"""The benchmark of time and memory over map sizes, on tiny maps."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from gfnet_pl.model import global_filter

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("scaling")


def trial(scaling, name, side, dim=8):
    torch.manual_seed(0)
    return scaling.Trial(scaling.MIXERS[name], dim, side, 2)


def test_the_program_measures_every_mixer_and_writes_plot_and_table(scaling, tmp_path, capsys):
    options = ["--dim", "8", "--repeats", "2", "--plot", str(tmp_path / "p.svg"), "--table", str(tmp_path / "t.md")]
    scaling.main(["--sides", "6", "3", "4", *options])
    table = (tmp_path / "t.md").read_text("utf-8")
    assert table.strip() in capsys.readouterr().out
    times, memory, duels = ([line.split(" | ") for line in part.splitlines()] for part in table.split("\n\n")[1:])
    for part in (times, memory):
        assert [line[0] for line in part[2:]] == ["| 3 x 3", "| 4 x 4", "| 6 x 6", "| exponent"]
        assert {len(line) for line in part} == {1 + len(scaling.MIXERS)}
        assert all(float(cell.split()[0]) > 0 for line in part[2:-1] for cell in line[1:])
    assert len(duels) == 2 + len(scaling.CROSSINGS)
    assert "<svg" in (tmp_path / "p.svg").read_text("utf-8")


def test_the_exponent_of_a_power_law_is_found_and_small_maps_have_no_say(scaling):
    tokens = [144, 256, 576, 1024]
    values = [3e-5 * n**1.7 for n in tokens]
    assert scaling.exponent(tokens, values) == pytest.approx(1.7)
    assert scaling.exponent(tokens, [9, 1, *values[2:]]) == pytest.approx(1.7)
    assert scaling.exponent(tokens[:2], values[:2]) == pytest.approx(1.7)


def test_power_laws_cross_where_they_are_equal(scaling):
    tokens = np.array([100, 400, 900])
    assert scaling.crossings(tokens, tokens**2 / 250, tokens) == pytest.approx([250])
    assert scaling.crossings(tokens, tokens**2, tokens) == []


def test_the_matrices_and_the_fft_are_one_filter_done_in_two_ways(scaling):
    limit = global_filter.MATRIX_MAX_TOKENS
    matrices, fft = (trial(scaling, f"filter, {way}", 50) for way in ("matrices", "FFT"))
    assert matrices.layer.along_width is not None
    assert trial(scaling, "filter, FFT", 4).layer.along_width is None
    torch.testing.assert_close(matrices.layer(matrices.x), fft.layer(fft.x), rtol=1e-4, atol=1e-5)
    assert global_filter.MATRIX_MAX_TOKENS == limit


def test_both_kernels_compute_the_attention_of_every_token_to_every_token(scaling):
    blockwise, stored = (trial(scaling, f"attention{kind}", 5, dim=128) for kind in ("", ", scores stored"))
    torch.testing.assert_close(blockwise.layer(blockwise.x), stored.layer(stored.x), rtol=1e-4, atol=1e-5)
    q, k, v = (part.unflatten(2, (2, 64)).transpose(1, 2) for part in stored.layer.qkv(stored.x).chunk(3, dim=2))
    mixed = torch.softmax(q @ k.mT / 8, dim=-1) @ v
    expected = stored.layer.proj(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(stored.layer(stored.x), expected, rtol=1e-4, atol=1e-5)


def test_a_convolution_mixes_neighbours_of_the_map_alone(scaling):
    conv = trial(scaling, "convolution 3 x 3", 5)
    before = conv.layer(conv.x)
    conv.x.data[:, 12] += 1  # the centre of 5 x 5
    changed = (conv.layer(conv.x) != before).any(2)
    assert changed.nonzero()[:, 1].tolist() == [6, 7, 8, 11, 12, 13, 16, 17, 18] * 2


def test_memory_counts_what_a_layer_must_hold(scaling):
    conv = trial(scaling, "convolution 3 x 3", 6)
    kept, peak = conv.memory()
    assert kept == conv.x.nbytes
    parameters = sum(parameter.nbytes for parameter in conv.layer.parameters())
    output = input_gradient = conv.x.nbytes
    assert peak >= conv.x.nbytes + conv.gradient.nbytes + 2 * parameters + output + input_gradient

    scores = 2 * 36 * 36 * 4  # of 2 images
    blockwise, _ = trial(scaling, "attention", 6).memory()
    stored, _ = trial(scaling, "attention, scores stored", 6).memory()
    assert stored - blockwise >= scores
    matrices = trial(scaling, "filter, matrices", 6)
    assert matrices.memory()[1] > sum(buffer.nbytes for buffer in matrices.layer.buffers())


def test_sides_without_an_exponent_for_every_mixer_are_refused(scaling, capsys):
    with pytest.raises(SystemExit):
        scaling.main(["--sides", "12", "96"])
    assert "give two or more of at most 64" in capsys.readouterr().err
