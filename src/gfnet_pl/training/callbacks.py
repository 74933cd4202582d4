"""Callbacks for training: TF32 on an NVIDIA GPU, and images per second."""

import logging
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from gfnet_pl.data.batches import Batch

log = logging.getLogger(__name__)


class TF32Precision(Callback):
    """TF32 for float32 matrix products and convolutions on an NVIDIA GPU, and cuDNN's search for the fastest kernels.

    With TF32, the inputs of a product are rounded to 10 bits of mantissa, and sums stay in float32. On any other device
    nothing changes: on a CPU, the precision "medium" may round to bfloat16 instead (docs/tf32.md). At the end, the
    earlier settings are restored.

    Args:
        enabled: Whether to use TF32 and the search. False: float32 throughout; torch itself would use TF32 for
            convolutions.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._before: tuple[str, str, str, str, bool] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.strategy.root_device.type != "cuda":
            return
        backends: Any = torch.backends  # the type stubs lack fp32_precision
        self._before = (
            torch.get_float32_matmul_precision(),
            backends.cuda.matmul.fp32_precision,
            backends.mkldnn.matmul.fp32_precision,
            backends.cudnn.conv.fp32_precision,
            backends.cudnn.benchmark,
        )
        torch.set_float32_matmul_precision("medium" if self.enabled else "highest")
        backends.cudnn.conv.fp32_precision = "tf32" if self.enabled else "ieee"
        # The search may choose another kernel in the next run, so a deterministic run does without it.
        backends.cudnn.benchmark = self.enabled and not torch.are_deterministic_algorithms_enabled()
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
        torch.set_float32_matmul_precision(precision)  # also sets the next two, but never to "none"
        backends: Any = torch.backends
        backends.cuda.matmul.fp32_precision = matmul
        backends.mkldnn.matmul.fp32_precision = mkldnn
        backends.cudnn.conv.fp32_precision = convolution
        backends.cudnn.benchmark = benchmark
        self._before = None


class Tell(Callback):
    """Logs lines when the data are there and the work begins, so that none stands before an error about them.

    Args:
        *lines: What to log.
    """

    def __init__(self, *lines: str) -> None:
        self.lines = lines

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.is_global_zero:
            for line in self.lines:
                log.info("%s", line)


class Throughput(Callback):
    """Logs `train/images_per_second` for each epoch, over the training steps of all devices, without validation."""

    _seconds = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._images, self._start = 0, time.perf_counter()  # an epoch that is resumed midway has no epoch start

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
        if self._images:
            of_all = trainer.world_size * self._images / self._seconds
            pl_module.log("train/images_per_second", of_all, sync_dist=True)
