"""The largest batch that fits into memory, tried by halves after one that did not."""

import gc
import traceback

import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from torch import Tensor

from gfnet_pl.data.batches import Batch
from gfnet_pl.data.datamodule import ImageDataModule
from gfnet_pl.errors import is_out_of_memory
from gfnet_pl.training.classifier import GFNetClassifier
from gfnet_pl.training.micro_batches import mean_loss


def told_of_batch(error: Exception, trainer: Trainer, model: GFNetClassifier, data: ImageDataModule) -> str | None:
    """Which batch fits where a training step did not, in one line; None if the error is of another kind.

    Args:
        error: What the training raised. What its frames hold is let go.
        trainer: The Trainer that raised it.
        model: The model that it trained.
        data: Its data.
    """
    if not is_out_of_memory(error) or model.classes is None:
        return None
    traceback.clear_frames(error.__traceback__)
    device, asked = trainer.strategy.root_device, data.batch_size
    size = _fitting(trainer, model, data)
    words = f"there is not enough memory for a batch of {asked:,} on {device}"
    if not size:
        return f"{words}, nor for one picture; take a smaller net or image"
    steps = trainer.accumulate_grad_batches * -(-asked // size)
    return f"{words}; {size:,} fit: --data.batch_size {size} --trainer.accumulate_grad_batches {steps}"


def _fitting(trainer: Trainer, model: GFNetClassifier, data: ImageDataModule) -> int:
    device, size = trainer.strategy.root_device, data.batch_size // 2
    while size:
        _let_go()
        try:
            _step(trainer, model.to(device).train(), data, size)
            return size
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)
            size //= 2
        finally:
            model.zero_grad(set_to_none=True)
    return 0


def _step(trainer: Trainer, model: GFNetClassifier, data: ImageDataModule, size: int) -> None:
    """What a training step needs: a batch, its augmentation, activations, gradients and AdamW's state."""
    parameters = [parameter for parameter in model.net.parameters() if parameter.requires_grad]
    state = [torch.zeros_like(parameter) for parameter in parameters for _ in range(2)]
    images = torch.zeros(size, data.canvas.channels, data.canvas.height, data.canvas.width, dtype=torch.uint8)
    labels, device = torch.zeros(size, dtype=torch.int64), trainer.strategy.root_device
    batch = data.on_after_batch_transfer(Batch(images.to(device), labels.to(device), labels.clone().to(device)), 0)

    def loss_of(part: Batch) -> Tensor:
        return F.cross_entropy(model(part.images).float(), part.labels)

    with trainer.precision_plugin.forward_context():
        loss = mean_loss(loss_of, model.parts(batch), parameters)
    loss.backward()  # type: ignore[no-untyped-call]
    del state


def _let_go() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
