"""Train Global Filter Networks on folders of pictures with PyTorch Lightning.

`main` is the `gfnet` command, `Classifier` uses a trained net. `newest_run` finds the run that the command trained,
`read_run` reads the results of one, and `analyse` computes what its report shows. The modules of
`gfnet_pl.evaluation` work on arrays of any origin.

The public names are imported on first use, so that `gfnet --help` and the worker processes of the data set do not
spend time on importing torch and Lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gfnet_pl.cli import main
    from gfnet_pl.data.augment import Augment
    from gfnet_pl.data.datamodule import ImageDataModule
    from gfnet_pl.export.classifier import Classifier, Prediction
    from gfnet_pl.model.gfnet import GFNet
    from gfnet_pl.model.global_filter import GlobalFilter
    from gfnet_pl.model.pretrained import load_authors_weights
    from gfnet_pl.report.analysis import analyse
    from gfnet_pl.run.folder import newest_run
    from gfnet_pl.run.run import read_run
    from gfnet_pl.training.classifier import GFNetClassifier

__version__ = "0.2.0.dev0"
__all__ = [
    "Augment",
    "Classifier",
    "GFNet",
    "GFNetClassifier",
    "GlobalFilter",
    "ImageDataModule",
    "Prediction",
    "analyse",
    "load_authors_weights",
    "main",
    "newest_run",
    "read_run",
]

_HOME = {
    "Augment": "gfnet_pl.data.augment",
    "Classifier": "gfnet_pl.export.classifier",
    "GFNet": "gfnet_pl.model.gfnet",
    "GFNetClassifier": "gfnet_pl.training.classifier",
    "GlobalFilter": "gfnet_pl.model.global_filter",
    "ImageDataModule": "gfnet_pl.data.datamodule",
    "Prediction": "gfnet_pl.export.classifier",
    "analyse": "gfnet_pl.report.analysis",
    "load_authors_weights": "gfnet_pl.model.pretrained",
    "main": "gfnet_pl.cli",
    "newest_run": "gfnet_pl.run.folder",
    "read_run": "gfnet_pl.run.run",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  (module-level __getattr__ returns whatever is asked for)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
