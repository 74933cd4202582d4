import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gfnet_pl.cli import main
from gfnet_pl.training.callbacks import TF32Precision


def settings():
    backends = torch.backends
    return (
        torch.get_float32_matmul_precision(),
        backends.cuda.matmul.fp32_precision,
        backends.mkldnn.matmul.fp32_precision,
        backends.cudnn.conv.fp32_precision,
        backends.cudnn.benchmark,
    )


def trainer_on(device):
    return SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)))


@pytest.fixture
def events(tiny):
    # Three epochs, in which the validation accuracy moves.
    assert main([*tiny, "--trainer.log_every_n_steps=1", "--trainer.max_epochs=3", "--model.lr=5e-3"]) == 0
    assert main(["test"]) == 0
    accumulator = EventAccumulator("runs/base/version_0", size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return accumulator.Reload()


@pytest.mark.parametrize("ends", ["teardown", "on_exception"])
def test_tf32_is_set_on_a_gpu_said_in_one_line_and_restored(caplog, ends):
    before = settings()
    callback = TF32Precision()
    try:
        with caplog.at_level("INFO"):
            callback.setup(trainer_on("cuda"), None, "fit")
        assert settings() == ("medium", "tf32", "bf16", "tf32", True)
        assert len(caplog.messages) == 1
        assert "'medium', matmul tf32, cuDNN convolution tf32, cuDNN benchmark True" in caplog.messages[0]
    finally:
        getattr(callback, ends)(None, None, "fit")
    assert settings() == before


def test_a_deterministic_run_does_without_cudnn_s_search():
    callback = TF32Precision()
    torch.use_deterministic_algorithms(True)
    try:
        callback.setup(trainer_on("cuda"), None, "fit")
        assert torch.backends.cudnn.benchmark is False
    finally:
        torch.use_deterministic_algorithms(False)
        callback.teardown(None, None, "fit")


def test_without_tf32_products_and_convolutions_are_float32_though_torch_itself_has_tf32_for_the_latter():
    before = settings()
    callback = TF32Precision(enabled=False)
    try:
        callback.setup(trainer_on("cuda"), None, "fit")
        assert settings() == ("highest", "ieee", "ieee", "ieee", False)
    finally:
        callback.teardown(None, None, "fit")
    assert settings() == before


@pytest.mark.parametrize("enabled", [True, False])
def test_tf32_changes_nothing_on_another_device(caplog, enabled):
    before = settings()
    with caplog.at_level("INFO"):
        TF32Precision(enabled=enabled).setup(trainer_on("cpu"), None, "fit")
    assert settings() == before
    assert not caplog.messages


def test_tf32_is_set_up_by_the_command_line(tiny, monkeypatch):
    seen = []
    monkeypatch.setattr(TF32Precision, "setup", lambda self, *_, **__: seen.append(self.enabled))
    assert main([*tiny, "--tf32.enabled=false", "--trainer.max_epochs=1"]) == 0
    assert seen == [False]


def test_tensorboard_has_the_scalars_with_the_epoch_as_x(events):
    scalars = set(events.Tags()["scalars"])
    expected = {"train/loss", "train/lr", "accuracy/train", "train/images_per_second", "accuracy/val", "loss/val"}
    expected |= {"val/macro_accuracy", "loss/train"}
    expected |= {f"test/{name}/accuracy" for name in ("val", "test", "holdout", "unseen")}
    assert expected <= scalars
    for tag in ("accuracy/val", "loss/val", "accuracy/train"):
        assert [event.step for event in events.Scalars(tag)] == [0, 1, 2], tag
    assert all(event.value > 0 for event in events.Scalars("train/images_per_second"))


def test_tensorboard_shows_the_first_batch_once_and_the_config_as_text(events):
    (image,) = events.Images("train/first_batch")
    drawn = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)).convert("L"))
    assert drawn.shape[1] > 400
    assert len(np.unique(drawn)) > 100  # grey levels: the pictures are there, not an empty page
    (config,) = events.Tensors("config/text_summary")
    assert "max_epochs: 3" in config.tensor_proto.string_val[0].decode()
    assert events.Tensors("run/text_summary")


def test_the_best_checkpoint_on_few_pictures_is_that_of_the_lowest_validation_loss(events):
    losses, accuracies = ([event.value for event in events.Scalars(tag)] for tag in ("loss/val", "accuracy/val"))
    best = torch.load("runs/base/version_0/checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == losses.index(min(losses))
    (state,) = [state for key, state in best["callbacks"].items() if key.startswith("ModelCheckpoint{")]
    assert state["best_loss"] == pytest.approx(min(losses))
    assert state["best_model_score"] == pytest.approx(accuracies[best["epoch"]])


def test_a_run_stores_what_it_was_made_with(tiny):
    assert main(tiny) == 0
    (session,) = json.loads(Path("runs/base/version_0/run.json").read_text())
    assert session["command"] == "gfnet " + " ".join(tiny)
    assert session["seed"] == "1"
    assert session["torch"].split("+")[0] == torch.__version__.split("+")[0]  # a package need not name its build
    assert {"commit", "cpu", "devices", "platform", "python", "lightning", "started"} <= session.keys()
    assert "dim: 16" in Path("runs/base/version_0/config.yaml").read_text()
    assert main([*tiny, "--ckpt_path=last.ckpt", "--trainer.max_epochs=3"]) == 0
    assert len(json.loads(Path("runs/base/version_0/run.json").read_text())) == 2
