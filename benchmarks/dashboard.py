"""What the dashboard costs: seconds spent in its hooks, and their share of the time of an epoch in a real run.

Trains on the embedded data in a temporary folder, and prints a table by callback. Seconds are those of the processor,
so that other jobs on the machine do not count; with one thread they are those of the clock on a quiet machine.

    OMP_NUM_THREADS=1 python benchmarks/dashboard.py --config base.yaml --config quick.yaml --config robust.yaml
"""

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from typing import Any

from gfnet_pl.cli import main as gfnet
from gfnet_pl.training import dashboard
from gfnet_pl.training.callbacks import Throughput
from gfnet_pl.training.outputs import KeepOutputs
from gfnet_pl.training.validation_pages import ValidationPages

CALLBACKS = (
    KeepOutputs,
    dashboard.Validation,
    dashboard.FirstBatch,
    dashboard.ClassBalance,
    dashboard.Charts,
    dashboard.Classes,
    dashboard.Filters,
    dashboard.HyperParameters,
    Throughput,
)
PARTS = ("_show_confusion", "_show_worst_errors", "_show_confidences", "_show_curves", "show_features")  # of Validation
ONCE = ("FirstBatch", "ClassBalance", "show_features")
RECIPE_EPOCHS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", action="append", required=True)
    parser.add_argument("--epochs", type=int, default=3)
    values, options = parser.parse_known_args()
    once: dict[str, float] = defaultdict(float)
    later: dict[str, float] = defaultdict(float)
    stamps: list[float] = []  # when the training starts and when each epoch ends

    def timed(work: Callable[..., Any], name: str) -> Callable[..., Any]:
        single = name in ONCE or work.__name__ in ("on_train_start", "on_train_end")

        @wraps(work)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            result = work(*args, **kwargs)
            end = time.process_time()
            (once if single else later)[name] += end - start
            if name == "Throughput" and work.__name__ in ("on_train_start", "on_train_epoch_end"):
                stamps.append(end)
            return result

        return wrapped

    for callback in CALLBACKS:
        for hook, method in list(vars(callback).items()):
            if hook.startswith("on_"):
                setattr(callback, hook, timed(method, callback.__name__))
    for part in PARTS:
        setattr(ValidationPages, part, timed(getattr(ValidationPages, part), part))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        configs = [word for config in values.config for word in ("--config", config)]
        gfnet(["fit", *configs, f"--trainer.max_epochs={values.epochs}", *options])
    epoch = (stamps[-1] - stamps[0]) / values.epochs
    print(f"\n{values.epochs} epochs of {epoch:.2f} s\n")
    print("| | once, s | per epoch, s | share of an epoch |\n|---|---|---|---|")
    for callback in CALLBACKS:
        row(callback.__name__, once, later, values.epochs, epoch)
        for part in PARTS if callback is dashboard.Validation else ():
            row(part, once, later, values.epochs, epoch, indent="- ")
    names = [callback.__name__ for callback in CALLBACKS]
    start, each = sum(once[name] for name in names), sum(later[name] for name in names) / values.epochs
    print(f"| all | {start:.2f} | {each:.3f} | {each / epoch:.2%} |")
    share = (start + RECIPE_EPOCHS * each) / (RECIPE_EPOCHS * epoch)
    print(f"\nOver {RECIPE_EPOCHS} such epochs: {start + RECIPE_EPOCHS * each:.1f} s, {share:.2%}")


def row(
    name: str, once: dict[str, float], later: dict[str, float], epochs: int, epoch: float, indent: str = ""
) -> None:
    each = later[name] / epochs
    print(f"| {indent}{name} | {once[name]:.3f} | {each:.3f} | {each / epoch:.2%} |")


if __name__ == "__main__":
    main()
