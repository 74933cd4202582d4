"""A run that is stopped within an epoch goes on exactly: from any batch, with accumulation, with worker processes."""

from pathlib import Path

import pytest
import torch

from gfnet_pl.cli import main
from gfnet_pl.training.callbacks import LastWithinEpoch

RANDOM = ["--model.dropout=0.2", "--model.drop_path=0.1", "--data.augment.rotation=20", "--data.augment.mixup=0.2"]
LAST = Path("runs/base/version_0/checkpoints/last.ckpt")


def state(path):
    checkpoint = torch.load(path, weights_only=True)
    (optimizer,) = checkpoint["optimizer_states"]
    return checkpoint["state_dict"], optimizer["state"], checkpoint["lr_schedulers"], checkpoint["global_step"]


class EveryBatch(LastWithinEpoch):
    """Writes a checkpoint of its own after each batch, at the moment at which last.ckpt may be written."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.save_checkpoint(f"within/{trainer.global_step}.ckpt")


EveryBatch.__qualname__ = LastWithinEpoch.__qualname__  # by which Lightning knows a callback's state again


@pytest.mark.parametrize("options", [[], ["--data.num_workers=2", "--data.balanced=true", "--data.epoch_size=70"]])
def test_a_run_resumed_at_any_batch_ends_as_one_that_was_never_stopped(tiny, options, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("gfnet_pl.training.lightning_cli.LastWithinEpoch", EveryBatch)
        assert main([*tiny, *RANDOM, *options]) == 0
    whole = state(LAST)
    steps = sorted(Path("within").glob("*.ckpt"), key=lambda path: int(path.stem))
    assert len(steps) == whole[-1] == (10 if options else 6)
    for path in steps[:-1]:
        path = path.rename(LAST.with_name(path.name))
        assert main([*tiny, *RANDOM, *options, f"--ckpt_path={path}"]) == 0
        torch.testing.assert_close(state(LAST), whole, rtol=0, atol=0)


def test_last_ckpt_is_written_within_an_epoch_but_never_between_accumulated_batches(tiny, monkeypatch):
    written = []

    class Often(LastWithinEpoch):
        def __init__(self):
            super().__init__()
            self._train_time_interval = self._train_time_interval * 0

        def _save_checkpoint(self, trainer, filepath):
            super()._save_checkpoint(trainer, filepath)
            written.append((trainer.current_epoch, trainer.fit_loop.batch_idx, Path(filepath).name))

    monkeypatch.setattr("gfnet_pl.training.lightning_cli.LastWithinEpoch", Often)
    assert main([*tiny, "--trainer.accumulate_grad_batches=2", "--data.batch_size=2"]) == 0  # 24 batches an epoch
    within = [(epoch, batch) for epoch, batch, name in written if name == "last.ckpt"]
    assert within == [(0, 19), (1, 19)]
