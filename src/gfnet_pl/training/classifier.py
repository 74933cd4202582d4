"""GFNetClassifier: how the network is trained and scored.

The loss is cross entropy, the optimizer AdamW. The learning rate warms up and then follows a cosine. Accuracy is
measured on every set.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torchmetrics import SumMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from gfnet_pl.data.batches import Batch
from gfnet_pl.data.datamodule import ImageDataModule
from gfnet_pl.data.splits import TESTED
from gfnet_pl.errors import UserError, check_range
from gfnet_pl.model.arguments import Variant, check_arguments, per_stage, with_variant
from gfnet_pl.model.gfnet import GFNet
from gfnet_pl.model.pretrained import check_pretrained, start_from
from gfnet_pl.training.checkpoint_files import refuse_bad_weights
from gfnet_pl.training.micro_batches import in_parts, largest_activation, mean_loss
from gfnet_pl.training.schedule import warmup_cosine
from gfnet_pl.training.sharpness import SharpnessAwareAdamW

_ASK_EVERY = 50  # steps
_IN_OLD_CHECKPOINTS = {"decay_matrices_only"}  # arguments of version 0.1.0


@dataclass(frozen=True)
class Score:
    """The score on a set.

    Attributes:
        confusion: (classes, classes) counts; rows are true classes.
        loss: Mean cross entropy.
    """

    confusion: Tensor
    loss: float

    @property
    def images(self) -> int:
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        return int(self.confusion.diag().sum())

    @property
    def accuracy(self) -> float:
        """Share of the images that are classified correctly (micro accuracy)."""
        return self.correct / max(1, self.images)

    @property
    def by_class(self) -> Tensor:
        """(classes,) share of each class's images that are classified correctly; NaN for a class without images."""
        return self.confusion.diag() / self.confusion.sum(1)

    @property
    def macro_accuracy(self) -> float:
        """Mean accuracy of the classes that have images."""
        return self.by_class.nanmean().item()


class SetMetrics(nn.Module):
    """Confusion matrix and loss of one set during an epoch, summed over devices."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        # without checks of the values, which would make the program wait for the GPU at every step
        self.confusion = MulticlassConfusionMatrix(classes, validate_args=False)
        self.loss = SumMetric(nan_strategy="disable")  # MeanMetric ignores weights if it does not check

    def update(self, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        self.confusion.update(logits.argmax(1), labels)
        self.loss.update(loss * len(labels))

    def compute(self) -> Score:
        """Returns the score, and sets all counts back to zero."""
        classes = self.confusion.num_classes
        confusion = self.confusion.compute().cpu().reshape(classes, classes)  # for one class it is a scalar
        score = Score(confusion, self.loss.compute().item() / max(1, int(confusion.sum())))
        self.reset()
        return score

    def reset(self) -> None:
        """Sets all counts back to zero."""
        self.confusion.reset()
        self.loss.reset()


def _cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    return F.cross_entropy(logits.float(), batch.labels)


class GFNetClassifier(LightningModule):
    """Trains a GFNet with AdamW. The learning rate rises linearly from 0, then falls to 0 as half a cosine.

    The learning rate changes at every optimizer step.

    Args:
        lr: Peak learning rate.
        weight_decay: Weight decay of AdamW, on all parameters as in the source study.
        warmup_epochs: Length of the warm-up in epochs; 0 starts at `lr`.
        sam_rho: Radius of sharpness-aware minimization, see `SharpnessAwareAdamW`, for few pictures; twice the time.
            0: without it.
        classes: Class names in the order of the logits; default: the classes of the data. Checkpoints store them.
        variant: One of the nets of GFNet's authors by its name: patch_size, dim, depth, mlp_ratio, layer_scale and stem
            are its. docs/performance.md has their sizes and speeds.
        pretrained: What a new net starts from: small, the weights that come with the package, or a file of those that
            GFNet's authors published. See `pretrained.load_authors_weights` for what is adapted.
        freeze: Keep patch embedding, position embedding and this many of the first blocks as they are, see
            `GFNet.freeze`. Default: train all.
        compile: Compile the net for training, in place. It is meant for a GPU. On a CPU it needs a C++ compiler and
            takes a minute.
        **net: Arguments of GFNet, except the number of classes.

    Raises:
        UserError: An argument is out of its range, or the arguments of GFNet do not fit together.
    """

    def __init__(
        self,
        *,
        lr: float = 1e-3,
        weight_decay: float = 1e-6,
        warmup_epochs: float = 5.0,
        sam_rho: float = 0.0,
        classes: list[str] | None = None,
        variant: Variant | None = None,
        pretrained: str | None = None,
        freeze: int = 0,
        compile: bool = False,
        **net: Any,  # noqa: ANN401  (jsonargparse reads GFNet's own signature)
    ) -> None:
        super().__init__()
        try:
            net.update(with_variant(variant, net))
        except ValueError as error:
            raise UserError(f"model.{error}") from None
        self.save_hyperparameters(logger=False)
        self.lr, self.weight_decay, self.warmup_epochs = lr, weight_decay, warmup_epochs
        self.sam_rho = sam_rho
        self.classes, self.pretrained, self.freezes = classes, pretrained, freeze
        self.start: Callable[[], None] | None = (
            None  # gives weights to the net that setup builds for the data's classes
        )
        self.compiles = compile
        self.net_arguments = net
        for name in _IN_OLD_CHECKPOINTS & net.keys():
            del net[name]
        self.scores: dict[str, Score] = {}
        self.training_logits: list[Tensor] = []  # of the last training batch, part by part
        self._check_arguments()
        if classes:
            self._build(classes)

    def _check_arguments(self) -> None:
        """Before any data is read. The net itself can only be built when its classes are known."""
        check_range("model.lr", self.lr, above=0)
        check_range("model.weight_decay", self.weight_decay, least=0)
        check_range("model.warmup_epochs", self.warmup_epochs, least=0)
        check_range("model.sam_rho", self.sam_rho, least=0)
        if self.classes is not None and len(set(self.classes)) != max(1, len(self.classes)):
            raise UserError("model.classes: name each class, and each once; or leave it out")
        arguments = signature(GFNet).bind(**self.net_arguments)
        arguments.apply_defaults()
        if self.pretrained and self.classes is None:  # the weights are loaded when the net is built
            check_pretrained(self.pretrained, arguments.arguments)
        try:
            check_arguments(*arguments.arguments.values())
            check_range(
                "freeze", self.freezes, least=0, most=sum(per_stage(arguments.arguments["depth"])), error=ValueError
            )
        except ValueError as error:
            raise UserError(f"model.{error}") from None

    def _build(self, classes: list[str]) -> None:
        self.classes = self.hparams["classes"] = classes
        self.net = GFNet(num_classes=len(classes), **self.net_arguments)
        # "train" alone cannot be used: every module has a method of that name
        self.metrics = nn.ModuleDict({f"{split}_set": SetMetrics(len(classes)) for split in ("train", *TESTED)})

    def setup(self, stage: str) -> None:
        """Builds the net for the classes of the data, unless the classes are known already.

        Args:
            stage: What the trainer is about to do: fit, validate, test or predict.

        Raises:
            UserError: The classes are unknown, the data has other classes than the net, or the pretrained weights
                do not fit.
        """
        data = getattr(self.trainer, "datamodule", None)
        found = data.classes if isinstance(data, ImageDataModule) else []
        if isinstance(data, ImageDataModule) and data.canvas.channels != self.hparams.get("in_channels", 1):
            raise UserError(
                f"data.colour is {data.canvas.colour}: the net needs in_channels={data.canvas.channels}; "
                "the command sees to it, in Python give it to GFNetClassifier"
            )
        if self.classes is None:
            if not isinstance(data, ImageDataModule):
                raise UserError("model.classes: unknown; give a checkpoint with --ckpt_path, or an ImageDataModule")
            self._build(found)
            if stage == "fit":
                self.net.set_normalisation(*data.normalisation())
                if self.pretrained:
                    start_from(self.net, self.pretrained)
                if self.start:
                    self.start()
        elif found and found != self.classes:
            differences = [f"{name} is only in the data" for name in found if name not in self.classes]
            differences += [f"{name} is not in the data" for name in self.classes if name not in found]
            raise UserError(
                f"the net knows {len(self.classes)} classes, the data has {len(found)}: "
                f"{', '.join(differences) or 'another order'}; train from scratch or give data of the same classes"
            )
        for counts in self.metrics.values():
            assert isinstance(counts, SetMetrics)
            counts.reset()  # a test leaves tensors of inference mode, and after an error also counts
        if stage == "fit":
            self.net.freeze(self.freezes)
        self._first_bad_step = torch.tensor(-1, device=self.device)
        if self.compiles and stage == "fit":
            self.net.compile()  # in place, so names in checkpoints stay the same

    def forward(self, images: Tensor) -> Tensor:
        """Classifies images: (B, in_channels, height, width) levels from 0 to 255 -> (B, classes) logits."""
        logits: Tensor = self.net(images)
        return logits

    def _shared_step(self, batch: Batch, logits: Tensor, split: str) -> Tensor:
        loss = _cross_entropy(logits, batch)
        self._metrics(split).update(logits.detach(), batch.labels, loss.detach())
        return loss

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        parameters = (parameter for parameter in self.net.parameters() if parameter.requires_grad)
        if self._aside():  # the batch has been counted
            return mean_loss(lambda part: _cross_entropy(self(part.images), part), self.parts(batch), parameters)
        self.training_logits.clear()
        loss = mean_loss(self._training_loss, self.parts(batch), parameters)
        self._watch(loss.detach())
        trainer: Any = self.trainer  # its type does not declare log_every_n_steps
        if (self.global_step + 1) % trainer.log_every_n_steps == 0:  # reading the loss means to wait for the GPU
            schedule: Any = self.lr_schedulers()
            self.log("train/loss", loss, prog_bar=True)
            self.log("train/lr", schedule.get_last_lr()[0])
        return loss

    def _aside(self) -> bool:
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        return isinstance(optimizer, SharpnessAwareAdamW) and optimizer.aside

    def _training_loss(self, part: Batch) -> Tensor:
        logits = self(part.images)
        self.training_logits.append(logits.detach().float())
        return self._shared_step(part, logits, "train")

    def parts(self, batch: Batch, views: int = 1) -> list[Batch]:
        """A batch in parts whose activations stay in the memory that the process has, see `micro_batches`."""
        return in_parts(batch, views * largest_activation(self.net), self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Scores a batch; returns its `logits` (B, classes) and `features` (B, C) for callbacks."""
        return self._evaluation_step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Scores a batch; returns the same as `validation_step`."""
        return self._evaluation_step(batch, self.test_sets[dataloader_idx])

    def _evaluation_step(self, batch: Batch, split: str) -> dict[str, Tensor]:
        outputs = self.predict_step(batch, 0)
        self._shared_step(batch, outputs["logits"], split)
        return outputs

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Returns the logits (B, classes) of a batch, and the features (B, dim) that they are computed from.

        Validation within a training has one view of each image: it would take a fifth of the training's time.
        """
        one = self.trainer.state.fn == "fit"
        parts = self.parts(batch, views=1 if one else self.net.views)
        features = torch.cat([self.net.features(part.images, one_view=one) for part in parts])
        return {"logits": self.net.head(features), "features": features}

    @property
    def test_sets(self) -> list[str]:
        """Names of the sets that `test` evaluates, in the order of its loaders."""
        data = getattr(self.trainer, "datamodule", None)
        return data.evaluated if isinstance(data, ImageDataModule) else ["test"]

    def on_train_epoch_end(self) -> None:
        self._stop_if_bad()
        self._log_score("train", self._metrics("train").compute())

    def on_validation_epoch_end(self) -> None:
        score = self._metrics("val").compute()
        self.scores = {"val": score}
        self._log_score("val", score)

    def on_test_epoch_end(self) -> None:
        self.scores = {split: self._metrics(split).compute() for split in self.test_sets}
        for split, score in self.scores.items():
            self._log_score(f"test/{split}", score)

    def _metrics(self, split: str) -> SetMetrics:
        metrics = self.metrics[f"{split}_set"]
        assert isinstance(metrics, SetMetrics)
        return metrics

    def _log_score(self, prefix: str, score: Score) -> None:
        if prefix == "train" or prefix == "val":
            self.log("step", float(self.current_epoch), sync_dist=True)  # the logger uses it as the x value
        self.log(f"{prefix}/accuracy", score.accuracy, prog_bar=prefix in ("train", "val"), sync_dist=True)
        self.log(f"{prefix}/macro_accuracy", score.macro_accuracy, sync_dist=True)
        if prefix != "train":  # in training, the loss is logged per step
            self.log(f"{prefix}/loss", score.loss, sync_dist=True)

    def _watch(self, loss: Tensor) -> None:
        """Remembers the first step with a NaN or infinite loss.

        On a GPU the result is read only now and then, since reading it means to wait for the GPU.
        """
        bad = ~torch.isfinite(loss) & (self._first_bad_step < 0)
        self._first_bad_step = torch.where(bad, self.global_step, self._first_bad_step)
        if loss.device.type == "cpu" or self.global_step % _ASK_EVERY == 0:
            self._stop_if_bad()

    def _stop_if_bad(self) -> None:
        step = int(self._first_bad_step)
        if step >= 0:
            raise UserError(
                f"the loss is not finite at step {step} (epoch {self.current_epoch}); training stops and the best "
                "checkpoint stays as it was; lower model.lr, or look at the data"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Lets no checkpoint be written whose weights are not finite, on no device."""
        refuse_bad_weights(checkpoint["state_dict"], self.global_step)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        trained = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        if self.sam_rho and self.trainer.accumulate_grad_batches > 1:
            raise UserError("model.sam_rho needs trainer.accumulate_grad_batches 1")
        if self.sam_rho and self.trainer.precision == "16-mixed":  # its scaled steps take one gradient
            raise UserError("model.sam_rho needs another trainer.precision than 16-mixed; bf16-mixed will do")
        kind = partial(SharpnessAwareAdamW, rho=self.sam_rho) if self.sam_rho else torch.optim.AdamW
        optimizer = kind(trained, lr=self.lr, weight_decay=self.weight_decay)
        self.trainer.fit_loop.setup_data()  # counts the batches, which the next line does not do with max_steps
        total = self.trainer.estimated_stepping_batches  # optimizer steps, with accumulation and devices considered
        if not math.isfinite(total):
            raise UserError("trainer.max_epochs: the cosine needs an end; give max_epochs or max_steps")
        steps_per_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        factor = partial(warmup_cosine, warmup_steps=self.warmup_epochs * steps_per_epoch, total_steps=int(total))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
