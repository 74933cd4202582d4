"""What goes with training: TF32 on the GPUs that have it, the progress bar, images a second, a last.ckpt in time."""

import logging
import time
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar

from gfnet_pl.data.batches import Batch

log = logging.getLogger(__name__)


class TF32Precision(Callback):
    """TF32 for float32 matrix products and convolutions on an NVIDIA GPU, and cuDNN's search for the fastest kernels.

    Inputs of a product are rounded to 10 bits of mantissa, sums stay in float32. On any other device nothing changes:
    on a CPU, "medium" may round to bfloat16 instead (docs/tf32.md). What was set before is set again at the end.

    Args:
        enabled: False leaves everything as it is.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._before: tuple[str, str, str, str, bool] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        device = trainer.strategy.root_device.type
        if not self.enabled or device != "cuda":
            reason = "switched off" if not self.enabled else f"nothing to do on {device}"
            log.info("TF32: %s; float32 matmul precision is %r", reason, torch.get_float32_matmul_precision())
            return
        backends: Any = torch.backends  # the stubs do not know fp32_precision
        self._before = (
            torch.get_float32_matmul_precision(),
            backends.cuda.matmul.fp32_precision,
            backends.mkldnn.matmul.fp32_precision,
            backends.cudnn.conv.fp32_precision,
            backends.cudnn.benchmark,
        )
        torch.set_float32_matmul_precision("medium")
        backends.cudnn.conv.fp32_precision = "tf32"
        # The search may pick another kernel in the next run: not what a deterministic run asked for.
        backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
        log.info(
            "TF32: float32 matmul precision %r, matmul %s, cuDNN convolution %s, cuDNN benchmark %s",
            torch.get_float32_matmul_precision(),
            backends.cuda.matmul.fp32_precision,
            backends.cudnn.conv.fp32_precision,
            backends.cudnn.benchmark,
        )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore()

    def _restore(self) -> None:
        if self._before is None:
            return
        precision, matmul, mkldnn, convolution, benchmark = self._before
        torch.set_float32_matmul_precision(precision)  # sets the next two as well, but not to "none"
        backends: Any = torch.backends
        backends.cuda.matmul.fp32_precision = matmul
        backends.mkldnn.matmul.fp32_precision = mkldnn
        backends.cudnn.conv.fp32_precision = convolution
        backends.cudnn.benchmark = benchmark
        self._before = None


class ProgressBar(RichProgressBar):
    """Epoch, batches, time left, loss and accuracy."""

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)  # the run's number is said elsewhere
        return metrics


class Throughput(Callback):
    """Logs `train/images_per_second` for each epoch: training steps of all devices, without validation."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._images, self._start = 0, time.perf_counter()  # an epoch that is resumed midway does not start again

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._images, self._start = 0, time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Batch,
        batch_idx: int,
    ) -> None:
        self._images += len(batch.labels)
        self._seconds = time.perf_counter() - self._start

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log("train/images_per_second", trainer.world_size * self._images / self._seconds)


class LastWithinEpoch(ModelCheckpoint):
    """Writes last.ckpt every ten minutes, so that a run that is killed in a long epoch loses no more than that.

    It is written after an optimizer step only: gradients that are still being accumulated are in no checkpoint. After
    an epoch's last batch it is left to the checkpoint of the epoch: Lightning 2.6 resumes from here with a wrong count.
    """

    STEPS = 10  # between looks at the clock, for which several devices must talk to each other

    def __init__(self) -> None:
        super().__init__(filename="last", train_time_interval=timedelta(minutes=10), enable_version_counter=False)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Batch,
        batch_idx: int,
    ) -> None:
        between = self.STEPS * trainer.accumulate_grad_batches
        if (batch_idx + 1) % between == 0 and not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
