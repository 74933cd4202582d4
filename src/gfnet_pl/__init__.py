"""Train Global Filter Networks on folders of grey pictures with PyTorch Lightning.

The public names are imported on first use, so that `gfnet --help` and the worker processes of the data set do not
spend time on importing torch and Lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gfnet_pl.data.datamodule import ImageDataModule
    from gfnet_pl.model.gfnet import GFNet
    from gfnet_pl.model.global_filter import GlobalFilter
    from gfnet_pl.model.pretrained import load_authors_weights
    from gfnet_pl.training.classifier import GFNetClassifier

__version__ = "0.2.0.dev0"
__all__ = ["GFNet", "GFNetClassifier", "GlobalFilter", "ImageDataModule", "load_authors_weights"]

_HOME = {
    "GFNet": "gfnet_pl.model.gfnet",
    "GFNetClassifier": "gfnet_pl.training.classifier",
    "GlobalFilter": "gfnet_pl.model.global_filter",
    "ImageDataModule": "gfnet_pl.data.datamodule",
    "load_authors_weights": "gfnet_pl.model.pretrained",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  (module-level __getattr__ returns whatever is asked for)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
