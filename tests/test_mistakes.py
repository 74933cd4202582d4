"""Every mistake is one line that names the option or the file; a fault keeps its traceback."""

import errno
import inspect
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUIET
from lightning.pytorch import Trainer

from gfnet_pl import GFNetClassifier, ImageDataModule
from gfnet_pl.cli import main
from gfnet_pl.errors import UserError, check_range, told_by_system
from gfnet_pl.files import check_output, read_arrays
from gfnet_pl.training import drawings
from gfnet_pl.training.dashboard import FirstBatch
from gfnet_pl.training.trainer_options import BY_LIGHTNING, CHECKED, FIXED, check_trainer

DEFAULTS = {
    name: parameter.default for name, parameter in inspect.signature(Trainer).parameters.items() if name != "self"
} | {"max_epochs": 20, "use_distributed_sampler": False}
NAN = float("nan")
OUT_OF_RANGE = {
    "accumulate_grad_batches": (0, -1),
    "barebones": (True,),
    "check_val_every_n_epoch": (0,),
    "enable_checkpointing": (False,),
    "fast_dev_run": (-1,),
    "gradient_clip_val": (-1, NAN, float("inf")),
    "limit_predict_batches": (0, 1, 0.5),
    "limit_test_batches": (-1, 1.5),
    "limit_train_batches": (0, 0.0, -1, 1.5, NAN),
    "limit_val_batches": (-1, 1.5),
    "log_every_n_steps": (0, -1),
    "max_epochs": (0, -2, None),
    "max_steps": (0, -2),
    "min_epochs": (-1,),
    "min_steps": (-1,),
    "num_nodes": (0,),
    "num_sanity_val_steps": (-2,),
    "overfit_batches": (1, 0.5),
    "reload_dataloaders_every_n_epochs": (-1,),
    "use_distributed_sampler": (True,),
    "max_time": ("x", "00:00:99", "1h"),
    "val_check_interval": (0, 0.0, 1.5, -1, "x"),
}
IN_RANGE = {
    "accumulate_grad_batches": (1, 8),
    "check_val_every_n_epoch": (2, None),
    "enable_checkpointing": (True, None),
    "fast_dev_run": (True, False, 3),
    "gradient_clip_val": (0, 0.5, None),
    "limit_test_batches": (0, 0.5, 3),
    "limit_train_batches": (1, 1.0, 0.1, 500, None),
    "limit_val_batches": (0, 0.0, 1.0),
    "max_epochs": (1, -1),
    "max_steps": (1, -1),
    "num_sanity_val_steps": (-1, 0, 2),
    "max_time": ("00:00:10:00", {"minutes": 1}, None),
    "val_check_interval": (0.25, 7, "00:00:10:00", {"minutes": 1}, None),
}
NET = {
    "image_size": (0, -1, (16, 0), 5000, 90),
    "patch_size": (0, -1),
    "dim": (0, -1, 10**8),
    "depth": (0, -1, 10**8),
    "mlp_ratio": (0, -1, NAN, 1e-9),
    "filter_size": ((3, 3), (0, 0)),
    "dropout": (-0.1, 1, NAN),
    "drop_path": (-0.1, 1, NAN),
    "lr": (0, -1, NAN),
    "weight_decay": (-1, NAN),
    "warmup_epochs": (-1, NAN),
    "classes": ([], ["ant", "ant"]),
    "freeze": (-1, 13),
}
DATA = {
    "batch_size": (0, -1),
    "epoch_size": (0, -1, 10**20),
    "num_workers": (-1, 10**20),
    "seed": (-1, 2**32),
    "unseen_groups": (-1,),
    "val_fraction": (0, 1, -1, NAN),
    "holdout_per_class": (-1,),
    "train_per_class": (0,),
}


def each(table):
    return [pytest.param(name, value, id=f"{name}={value}") for name, values in table.items() for value in values]


def last_line(capsys):
    return capsys.readouterr().err.splitlines()[-1]


def test_every_option_of_lightning_s_trainer_stands_in_one_table():
    tables = [*CHECKED, *FIXED, *BY_LIGHTNING]
    assert sorted(tables) == sorted(DEFAULTS)
    assert OUT_OF_RANGE.keys() == {*CHECKED, *FIXED}
    check_trainer(DEFAULTS)


@pytest.mark.parametrize(("name", "value"), each(OUT_OF_RANGE))
def test_a_value_that_the_trainer_cannot_have_is_refused_with_what_it_can_have(name, value):
    with pytest.raises(UserError, match=rf"^trainer\.{name} is {value}: (it must be|leave it out|give max_epochs)"):
        check_trainer(DEFAULTS | {name: value})


@pytest.mark.parametrize(("name", "value"), each(IN_RANGE))
def test_a_value_that_the_trainer_can_have_passes(name, value):
    check_trainer(DEFAULTS | {name: value})


@pytest.mark.parametrize(("name", "value"), each(NET))
def test_a_value_out_of_range_for_the_model_is_refused_before_any_data_is_read(name, value):
    with pytest.raises(UserError, match=rf"^model\.{name}\b"):
        GFNetClassifier(**{name: value})


@pytest.mark.parametrize(("name", "value"), each(DATA))
def test_a_value_out_of_range_for_the_data_is_refused(name, value):
    with pytest.raises(UserError, match=rf"^data\.{name} is {value}: it must be "):
        ImageDataModule("nowhere", **{name: value})


def test_the_message_says_the_whole_range():
    with pytest.raises(UserError, match=r"^p is 1: it must be at least 0 and below 1$"):
        check_range("p", 1, least=0, below=1)
    with pytest.raises(ValueError, match=r"^n is 0: it must be above 0 and at most 10,000$"):
        check_range("n", 0, above=0, most=10_000, error=ValueError)
    check_range("n", None, least=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.lr", "fast"], "model.lr is fast: it must be a number"),
        (["--model.lr", "null"], "model.lr is null: it must be a number"),
        (["--model.image_size", "[16]"], "model.image_size is [16]: it must be a whole number or a list of 2"),
        (["--data.on_broken", "stop"], "data.on_broken is stop: it must be error or skip"),
        (["--data.class_emphasis", "{ant: x}"], "data.class_emphasis is x: it must be a number"),
        (["--trainer.max_epochs", "1.5"], "trainer.max_epochs is 1.5: it must be a whole number or null"),
        (["--model", "x"], "model: it must be a mapping, or a file that holds one"),
        (["--seed_everything", "-1"], "seed_everything is -1: it must be at least 0 and at most 4,294,967,295"),
        (["--trainer.log_every_n_steps", "0"], "trainer.log_every_n_steps is 0: it must be at least 1"),
        (["--config", "latin.yaml"], "--config: latin.yaml is not UTF-8 text: save it as UTF-8"),
        (["--config", "word.yaml"], "--config: word.yaml must hold keys with values"),
        (["--config", "tab.yaml"], "--config: tab.yaml is no YAML: while scanning for the next token found character"),
        (["--config", "empty.yaml"], "model is None: it must be a mapping; give it keys, or drop it"),
        (["--trainer.accelerator", "gpu9"], "trainer.accelerator: You selected an invalid accelerator name"),
        (
            ["--trainer.devices", "-1"],
            "trainer.devices: `devices` selected with `CPUAccelerator` should be an int",
        ),
        (["--trainer.strategy", "dp"], "trainer.strategy: You selected an invalid strategy name"),
        (["--trainer.profiler", "x"], "trainer.profiler: "),
        (
            ["--trainer.callbacks={class_path: ModelCheckpoint, init_args: {monitor: val/accuracy, mode: max}}"],
            "more than one stateful callback of type `",
        ),
        (
            ["--trainer.callbacks+=EarlyStopping"],
            "callbacks.EarlyStopping: the following arguments are required: monitor",
        ),
        (
            ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val_loss"],
            "trainer.callbacks: EarlyStopping monitors 'val_loss', which is not measured; did you mean val/loss?",
        ),
        (
            ["--trainer.callbacks={class_path: EarlyStopping, init_args: {monitor: val/loss, mode: up}}"],
            "callbacks.EarlyStopping: `mode` can be min, max, got up",
        ),
        (["--trainer.logger={class_path: foo.Bar}"], "trainer.logger: foo.Bar is not imported: a config may only name"),
    ],
)
def test_what_the_parser_and_lightning_refuse_is_one_line(workplace, capsys, options, message):
    Path("latin.yaml").write_bytes("stage: caf\xe9\n".encode("latin-1"))
    Path("empty.yaml").write_text("model:\nstage: x\n")
    Path("tab.yaml").write_text("model:\n\tdim: 3\n")
    Path("word.yaml").write_text("hello\n")
    assert main(["fit", *QUIET, *options]) == 2
    line = last_line(capsys)
    assert line.startswith("gfnet: error: ")
    assert message in line
    assert not Path("runs").exists()


def test_what_a_callback_of_the_command_raises_is_told_with_its_name(tiny, capsys):
    assert main([*tiny, "--trainer.callbacks+=BackboneFinetuning"]) == 2
    line = last_line(capsys)
    assert line.startswith("gfnet: error: trainer: BackboneFinetuning: ")
    assert "has no attribute 'backbone'" in line


def test_a_fault_keeps_its_traceback_and_says_where(tiny, capsys, monkeypatch):
    monkeypatch.setattr(FirstBatch, "on_train_batch_start", lambda *_: 1 / 0)
    assert main(tiny) == 1
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last)" in shown
    kept = Path("runs/base/version_0/fault.txt")
    assert "ZeroDivisionError: division by zero" in kept.read_text()
    assert shown.splitlines()[-1].startswith("gfnet: fault: division by zero: ")
    assert str(kept) in shown.splitlines()[-1]


def test_a_trial_with_one_batch_works_and_leaves_nothing(tiny):
    assert main([*tiny, "--trainer.fast_dev_run=true"]) == 0
    assert not Path("runs").exists()


def test_a_file_in_a_folder_s_place_is_named(tiny, capsys):
    Path("runs").touch()
    assert main(tiny) == 2
    assert last_line(capsys).endswith(
        f"{Path('runs/base')}: Not a directory; a file stands where a folder must be: move it, or name another place"
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "full", "a.ckpt"), "a.ckpt: No space left on device; make room there"),
        (OSError(errno.ENOSPC, "full"), "the system says No space left on device; make room there"),
        (OSError(errno.EISDIR, "", "a.csv.partial", None, "a.csv"), "a.csv: Is a directory; a folder stands where a "),
        (PermissionError(errno.EACCES, "", b"runs"), "runs: Permission denied; change who may use it"),
        (OSError(errno.EROFS, "", "runs"), "runs: Read-only file system; copy it to a place that can be written"),
        (OSError(errno.ENOENT, ""), "the current folder is gone; change to another one"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. "),
            "a process that reads batches has",
        ),
        (MemoryError(), "there is not enough memory (MemoryError); lower data.batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), "there is not enough memory (Default"),
        (UnicodeEncodeError("utf-8", "a\udc80", 1, 2, "surrogates"), r"'a\udc80': not valid Unicode"),
        (ValueError("embedded null byte"), "a path has a zero byte in it"),
        (
            torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nSearch for"),
            "the GPU failed (CUDA error: an illegal memory access was encountered): another program on it",
        ),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `x`"),
            "the GPU failed (CUDA error: CUB",
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED_CUDART"), "the GPU failed (cuDNN error: CUDNN_STAT"),
        (
            RuntimeError("CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors"),
            "this torch has nothing that runs on this GPU (CUDA error: no kernel image is available for execution on ",
        ),
        (RuntimeError("CUDA error: device-side assert triggered"), None),
        (RuntimeError("CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `x`"), None),
        (ValueError("x"), None),
        (RuntimeError("x"), None),
        (OSError("no number"), None),
    ],
)
def test_what_the_system_refuses_is_told_with_the_file(error, message):
    told = told_by_system(error)
    assert told == message if message is None else told.startswith(message)


@pytest.mark.parametrize("name", ["", "folder", "folder/", "file/x", "nowhere/x"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(workplace, name):
    Path("folder").mkdir()
    Path("file").touch()
    with pytest.raises(UserError, match=r"^--out: .* (is a folder; name a file|is not a folder; make it first)$"):
        check_output("--out", name)
    assert check_output("--out", "file") == Path("file")


@pytest.mark.parametrize("content", [b"", b"PK", b"garbage"])
def test_a_damaged_file_of_arrays_is_named(tmp_path, content):
    (tmp_path / "filters.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"filters\.npz cannot be read \(.*\); remove it$"):
        read_arrays(tmp_path / "filters.npz")


def test_a_terminal_without_these_characters_gets_similar_ones(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["--help"]) == 0
    assert b"usage: gfnet COMMAND ..." in out.buffer.getvalue()
    out.write("日→")
    out.flush()
    assert out.buffer.getvalue().endswith(b"\\u65e5\\u2192")


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\x00b", "a\x1bb", "a\u2028b", "\u202eab", "\U0010ffff", "\ud800"])
def test_a_class_of_any_name_is_drawn(name):
    classes, counts = [name, "b"], np.array([[3, 1], [0, 2]])
    pages = (
        drawings.confusion_matrix(counts, classes),
        drawings.bars({"train": counts[0]}, classes),
        drawings.history(counts / 4, [1, 2], classes),
        drawings.grid(np.zeros((2, 8, 8), np.uint8), classes, columns=2, side=96),
    )
    assert all(len(np.unique(page)) > 2 for page in pages)


def test_output_that_nobody_reads_ends_the_command_quietly(monkeypatch, capsys):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Closed())
    assert main(["--help"]) == 141
    assert capsys.readouterr().err == ""


def test_ctrl_c_is_no_traceback(monkeypatch, capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("gfnet_pl.audit.audit.run_audit", interrupted)
    assert main(["audit"]) == 130
    assert capsys.readouterr().err == "gfnet: stopped\n"
