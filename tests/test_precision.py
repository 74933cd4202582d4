"""Which precision a command takes: the faster one by measurement, the run's, or the one that was asked for."""

import numpy as np
import pytest
import torch
import yaml

from gfnet_pl.cli import main
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.run.result_files import read_results
from gfnet_pl.training import precision
from gfnet_pl.training.precision import Rates

MEASURE = precision.product_rates  # conftest replaces it


@pytest.fixture
def fast_bf16(monkeypatch):
    monkeypatch.setattr(precision, "product_rates", lambda dim, hidden: Rates(100e9, 200e9))


def recorded(run):
    return yaml.safe_load((run / "config.yaml").read_text())["trainer"]["precision"]


def test_the_faster_precision_is_taken_if_it_is_clearly_faster():
    assert Rates(100, 200).faster == "bf16-mixed"
    assert Rates(200, 100).faster == "32-true"
    assert Rates(100, 105).faster == "32-true"


def test_products_are_measured_in_both_precisions_on_one_thread():
    torch.set_num_threads(2)
    try:
        rates = MEASURE(32, 128)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert 1e6 < rates.float32 < 1e13
    assert 1e6 < rates.bf16 < 1e13


def test_a_run_records_what_it_took_and_resume_and_polish_keep_it(tiny, workplace, fast_bf16, monkeypatch, caplog):
    assert main(tiny) == 0
    base = workplace / "runs/base/version_0"
    assert recorded(base) == "bf16-mixed"
    assert "precision: bf16-mixed; a core here does 100 GFLOP/s in float32, 200 in bf16" in caplog.text
    monkeypatch.setattr(precision, "product_rates", lambda dim, hidden: Rates(200e9, 100e9))
    caplog.clear()
    assert main(["fit", "--ckpt_path=last.ckpt", "--stage=base", "--trainer.max_epochs=3"]) == 0
    assert recorded(base) == "bf16-mixed"
    assert main(["fit", "--ckpt_path=last.ckpt", "--stage=polish", "--trainer.max_epochs=1"]) == 0
    assert recorded(workplace / "runs/polish/version_0") == "bf16-mixed"
    assert "precision:" not in caplog.text


def test_an_explicit_precision_wins(tiny, workplace, fast_bf16, caplog):
    assert main([*tiny, "--trainer.precision=32-true"]) == 0
    assert recorded(workplace / "runs/base/version_0") == "32-true"
    assert "precision:" not in caplog.text


def test_the_result_of_a_test_does_not_depend_on_it(tiny, workplace, monkeypatch):
    assert main([*tiny, "--trainer.max_epochs=8", "--model.lr=0.01"]) == 0
    found = []
    for rates in (Rates(2e9, 1e9), Rates(1e9, 2e9)):
        monkeypatch.setattr(precision, "product_rates", lambda dim, hidden, rates=rates: rates)
        assert main(["test"]) == 0
        found.append(read_results(RunFolder(workplace / "runs/base/version_0")).everything)
    assert np.abs(found[0].logits - found[1].logits).max() > 0  # it was another precision
    assert (found[0].predictions == found[1].predictions).mean() >= 0.97  # 1 of 40 may lie on a border


@pytest.mark.parametrize("config", ["base.yaml", "quick.yaml", "robust.yaml", "polish.yaml"])
def test_no_config_fixes_it(config):
    from gfnet_pl.cli import find_config

    assert "precision" not in yaml.safe_load(find_config(config).read_text()).get("trainer", {})
