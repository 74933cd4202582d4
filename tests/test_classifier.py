import math

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from gfnet_pl import GFNet, GFNetClassifier, ImageDataModule
from gfnet_pl.errors import UserError
from gfnet_pl.training.classifier import Score, SetMetrics
from gfnet_pl.training.trainer_options import MONITORS

NET = {"image_size": 16, "patch_size": 4, "dim": 16, "depth": 1, "dropout": 0.0, "drop_path": 0.0}


class Record(Callback):
    """The learning rate that each optimizer step is taken with."""

    def __init__(self):
        self.rates = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])


def fit(pictures, model, **options):
    record = Record()
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[record, *options.pop("callbacks", [])],
        **options,
    )
    data = ImageDataModule(str(pictures), image_size=16, batch_size=8, seed=1)
    trainer.fit(model, datamodule=data)
    return trainer, record


@pytest.mark.parametrize("accumulate", [1, 3])
def test_warm_up_and_cosine_are_stepped_per_optimizer_step(pictures, accumulate):
    model = GFNetClassifier(lr=1e-3, warmup_epochs=2, **NET)
    trainer, record = fit(pictures, model, max_epochs=5, accumulate_grad_batches=accumulate)
    per_epoch = math.ceil(7 / accumulate)  # 54 images in batches of 8
    total, warmup = 5 * per_epoch, 2 * per_epoch
    assert trainer.global_step == len(record.rates) == total
    expected = [
        1e-3 * (step / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))))
        for step in range(total)
    ]
    assert record.rates == pytest.approx(expected)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)


def test_it_learns_and_reports_its_scores(pictures):
    torch.manual_seed(0)
    model = GFNetClassifier(lr=5e-3, warmup_epochs=1, **NET)
    trainer, _ = fit(pictures, model, max_epochs=15)
    assert trainer.callback_metrics["val/accuracy"] == 1
    assert set(MONITORS) <= trainer.callback_metrics.keys()
    trainer.test(model, datamodule=trainer.datamodule, verbose=False)
    assert {name: score.images for name, score in model.scores.items()} == {"val": 6, "test": 12, "unseen": 15}
    assert model.scores["test"].accuracy == 1
    assert trainer.callback_metrics["test/unseen/accuracy"] == 1


def test_the_optimizer_is_adamw_with_the_given_decay(pictures):
    model = GFNetClassifier(lr=1e-3, weight_decay=0.25, **NET)
    trainer, _ = fit(pictures, model, max_steps=1)
    assert isinstance(trainer.optimizers[0], torch.optim.AdamW)
    (group,) = trainer.optimizers[0].param_groups
    assert group["weight_decay"] == 0.25
    assert len(group["params"]) == len(list(model.net.parameters()))


def test_a_sharpness_aware_step_follows_the_gradient_of_the_moved_weights_and_counts_a_batch_once(pictures):
    torch.manual_seed(0)
    model = GFNetClassifier(lr=1e-2, weight_decay=0.25, warmup_epochs=0, sam_rho=0.5, **NET)
    before, batches, counted = [], [], []

    class Watch(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            before.extend(each.detach().clone() for each in model.net.parameters())
            batches.append(batch)

        def on_train_batch_end(self, *_):
            counted.append(int(model.metrics["train_set"].confusion.confmat.sum()))

    trainer, _ = fit(pictures, model, max_steps=1, callbacks=[Watch()])
    after = [each.detach().clone() for each in model.net.parameters()]
    (images, labels, _), parameters = batches[0], list(model.net.parameters())
    assert counted == [8] and trainer.global_step == 1

    def gradients():
        return torch.autograd.grad(F.cross_entropy(model.net(images), labels), parameters)

    model.net.train()
    with torch.no_grad():
        torch._foreach_copy_(parameters, before)
    uphill = gradients()
    length = sum(each.square().sum() for each in uphill).sqrt()
    with torch.no_grad():
        torch._foreach_add_(parameters, [0.5 * each / length for each in uphill])
    expected = gradients()
    with torch.no_grad():
        torch._foreach_copy_(parameters, before)
    for each, gradient in zip(parameters, expected, strict=True):
        each.grad = gradient
    torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.25).step()
    for one, other in zip(after, parameters, strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=1e-4, atol=1e-6)


def test_sharpness_aware_steps_of_several_batches_are_refused(pictures):
    with pytest.raises(UserError, match=r"sam_rho needs trainer\.accumulate_grad_batches 1"):
        fit(pictures, GFNetClassifier(sam_rho=0.1, **NET), max_epochs=1, accumulate_grad_batches=2)


def test_sharpness_aware_steps_are_refused_where_gradients_are_scaled(pictures, monkeypatch):
    model = GFNetClassifier(sam_rho=0.1, **NET)
    monkeypatch.setattr(Trainer, "precision", "16-mixed")  # which needs a GPU
    with pytest.raises(UserError, match=r"another trainer\.precision than 16-mixed"):
        fit(pictures, model, max_epochs=1)


def test_validation_has_all_views_of_an_image_but_one_within_a_training(pictures):
    torch.manual_seed(0)
    model = GFNetClassifier(lr=5e-3, warmup_epochs=1, shifted_views=True, mirrored_views=True, **NET)
    trainer, _ = fit(pictures, model, max_epochs=2)
    trained = trainer.callback_metrics["val/loss"].item()
    trainer.validate(model, datamodule=trainer.datamodule, verbose=False)
    validated = trainer.callback_metrics["val/loss"].item()
    model.net.shifted_views = model.net.mirrored_views = False
    trainer.validate(model, datamodule=trainer.datamodule, verbose=False)
    assert trainer.callback_metrics["val/loss"].item() == pytest.approx(trained, rel=1e-5)
    assert abs(validated - trained) > 1e-4


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(pictures, value):
    class Poison(GFNetClassifier):
        def forward(self, images):
            return super().forward(images) + (value if self.trainer.global_step == 3 and self.training else 0)

    with pytest.raises(UserError, match=r"loss is not finite at step 3 \(epoch 0\)"):
        fit(pictures, Poison(**NET), max_epochs=2)


def test_without_an_end_there_is_no_cosine(pictures):
    with pytest.raises(UserError, match="the cosine needs an end"):
        fit(pictures, GFNetClassifier(**NET), max_epochs=-1)


def test_normalisation_is_the_training_split_s(pictures):
    model = GFNetClassifier(**NET)
    trainer, _ = fit(pictures, model, max_steps=1)
    mean, std = trainer.datamodule.normalisation()
    assert model.net.mean.tolist() == pytest.approx(mean)
    assert model.net.std.tolist() == pytest.approx(std)


def test_other_classes_are_refused_by_name(pictures):
    with pytest.raises(UserError, match="ant is only in the data, bee is only in the data, dog is not in the data"):
        fit(pictures, GFNetClassifier(classes=["Cat", "dog"], **NET), max_steps=1)


def test_a_net_that_cannot_be_built_says_why(pictures):
    with pytest.raises(UserError, match=r"model\.image_size .*patch"):
        fit(pictures, GFNetClassifier(**NET | {"patch_size": 5}), max_steps=1)


def test_scores_agree_with_torchmetrics_accuracy_over_several_batches():
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(50, 4, generator=generator), torch.randint(0, 4, (50,), generator=generator)
    metrics = SetMetrics(4)
    for part in (slice(0, 32), slice(32, 50)):
        loss = torch.nn.functional.cross_entropy(logits[part], labels[part])
        metrics.update(logits[part], labels[part], loss)
    score = metrics.compute()
    assert score.images == 50
    assert score.accuracy == pytest.approx(MulticlassAccuracy(4, average="micro")(logits, labels).item())
    assert score.macro_accuracy == pytest.approx(MulticlassAccuracy(4, average="macro")(logits, labels).item())
    by_class = MulticlassAccuracy(4, average="none")(logits, labels)
    assert score.by_class.tolist() == pytest.approx(by_class.tolist())
    assert score.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item())
    metrics.update(logits[:2], labels[:2], torch.tensor(0.0))
    assert metrics.compute().images == 2  # it starts again


def test_a_class_without_images_does_not_count_in_the_macro_accuracy():
    assert Score(torch.tensor([[3, 1], [0, 0]]), 0.0).macro_accuracy == 0.75


def test_a_compiled_net_trains_and_its_checkpoint_is_that_of_any_other(pictures, tmp_path, monkeypatch):
    compiled = []

    def in_place(net):
        compiled.append(net)
        nn.Module.compile(net, backend="eager")  # what the compiler sees, without its minutes

    monkeypatch.setattr(GFNet, "compile", in_place, raising=False)
    model = GFNetClassifier(warmup_epochs=0, compile=True, **NET | {"dropout": 0.2, "drop_path": 0.1})
    trainer, _ = fit(pictures, model, max_epochs=1)
    assert compiled == [model.net]
    trainer.save_checkpoint(tmp_path / "compiled.ckpt")
    state = torch.load(tmp_path / "compiled.ckpt", weights_only=True)["state_dict"]
    assert {name for name in state if name.startswith("net.")} == {
        f"net.{name}" for name in GFNet(**NET, num_classes=3).state_dict()
    }
    evaluated = GFNetClassifier.load_from_checkpoint(tmp_path / "compiled.ckpt")
    trainer.test(evaluated, datamodule=ImageDataModule(str(pictures), image_size=16, seed=1), verbose=False)
    assert compiled == [model.net]


def test_the_net_compiles_without_a_break_in_its_graph():
    net = GFNet(**NET | {"dropout": 0.2, "drop_path": 0.1, "depth": 2}).train()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    compiled(torch.zeros(4, 1, 16, 16)).sum().backward()


@pytest.mark.parametrize("same_trainer", [True, False])
@pytest.mark.parametrize("before", ["test", "validate"])
def test_a_model_is_fitted_after_it_was_tested(pictures, before, same_trainer):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}

    def trainer():
        return Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, **quiet)

    model, data = GFNetClassifier(**NET), ImageDataModule(str(pictures), image_size=16, batch_size=32, seed=1)
    first = trainer()
    getattr(first, before)(model, data, verbose=False)
    second = first if same_trainer else trainer()
    second.fit(model, data)
    assert second.global_step == 2
    assert model.scores["val"].images == len(data.sets["val"])
