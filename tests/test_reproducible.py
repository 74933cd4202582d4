"""Equal seeds give equal weights, bit for bit; other seeds other ones. And a version trains as the one before."""

import hashlib
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

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


# The losses of the first 50 steps in float32. Whatever moves them changes the results of everybody's runs: where that
# is meant, the new ones are put here, and CHANGELOG.md says why.
GOLDEN = Path(__file__).with_name("golden_losses.txt")
TOLERANCE = 1e-4


def test_the_losses_of_50_steps_are_those_of_the_version_before(tiny):
    options = ["--data.batch_size=8", "--data.augment.rotation=10", "--data.augment.erasing=0.25", "--model.stem=conv"]
    rare = ["--trainer.max_epochs=9", "--trainer.check_val_every_n_epoch=9", "--trainer.log_every_n_steps=1"]
    assert main([*tiny, *DROP, *options, *rare, "--trainer.precision=32-true", "--trainer.max_steps=50"]) == 0
    events = EventAccumulator("runs/base/version_0", size_guidance={"scalars": 0}).Reload().Scalars("train/loss")
    found = [event.value for event in events]
    assert found == pytest.approx([float(line) for line in GOLDEN.read_text().split()], abs=TOLERANCE)
