"""Equal seeds give equal weights, bit for bit; other seeds other ones."""

import hashlib
from pathlib import Path

import pytest
import torch

from gfnet_pl.cli import main

DROP = ["--model.dropout=0.3", "--model.drop_path=0.2"]


def weights(stage):
    state = torch.load(f"runs/{stage}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(state[name].numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("options", [[], ["--trainer.deterministic=true"], ["--trainer.precision=bf16-mixed"]])
def test_the_seed_settles_the_weights(tiny, options):
    for stage, seed in (("one", 1), ("again", 1), ("other", 2)):
        assert main([*tiny, *DROP, *options, f"--stage={stage}", f"--seed_everything={seed}"]) == 0
        torch.rand(3)
    assert weights("one") == weights("again")
    assert weights("one") != weights("other")
    torch.use_deterministic_algorithms(False)


def test_the_seed_settles_the_splits_and_may_be_given_apart(tiny):
    for stage, seed in (("one", 1), ("other", 2)):
        assert main([*tiny, f"--stage={stage}", f"--seed_everything={seed}", "--trainer.max_epochs=1"]) == 0
    assert main([*tiny, "--stage=apart", "--seed_everything=2", "--data.seed=1", "--trainer.max_epochs=1"]) == 0
    one, other, apart = (Path(f"runs/{stage}/version_0/splits.csv").read_text() for stage in ("one", "other", "apart"))
    assert one == apart != other
