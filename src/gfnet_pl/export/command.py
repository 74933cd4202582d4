"""`gfnet export [RUN]`: a run's net as files that other programs can use, with the proof that they are that net."""

import logging
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gfnet_pl.errors import OneLineParser, UserError, check_range
from gfnet_pl.export.card import model_card
from gfnet_pl.export.check import CHECKPOINT, Checked
from gfnet_pl.export.export import check_export, export_run
from gfnet_pl.export.page import write_page
from gfnet_pl.files import replacing
from gfnet_pl.messages import printable
from gfnet_pl.run.export import Export, export_of
from gfnet_pl.run.folder import ExportFolder, RunFolder, newest_run
from gfnet_pl.run.run import read_run

log = logging.getLogger(__name__)


def run_export(args: list[str]) -> None:
    """Runs `gfnet export`.

    Args:
        args: The words after `gfnet export`.

    Raises:
        UserError: The command line is wrong, a run cannot be read or exported, or a check fails.
    """
    parser = OneLineParser("gfnet export", description="A run's net as files that other programs can use, checked.")
    parser.add_argument("run", metavar="RUN", type=Path, nargs="?", help="runs/<stage>/version_N; default: the newest")
    parser.add_argument("--out", metavar="DIR", type=Path, help="where to; default: export in the run's folder")
    parser.add_argument("--check", metavar="DIR", type=Path, help="check an export again, and write nothing")
    parser.add_argument("--data", metavar="DIR", help="where the run's pictures are now, if they have moved")
    words = "points of accuracy that model.int8.onnx may lose (default 0.5)"
    parser.add_argument("--max-drop", metavar="X", type=float, default=0.5, help=words)
    parser.add_argument("--card", action="store_true", help="write only MODEL_CARD.md, of a tested run")
    words = "also write index.html, which runs the net in a browser; an export of the same net is taken as it is"
    parser.add_argument("--page", action="store_true", help=words)
    values = parser.parse_args(args)
    if values.check is not None:
        if values.run is not None or values.out is not None or values.card or values.page:
            raise UserError("gfnet export --check DIR takes no run, --out, --card or --page: it writes nothing")
        checks = check_export(ExportFolder(values.check), data=values.data)
        Console().print(checks_table(checks))
        return
    check_range("--max-drop", values.max_drop, least=0)
    run = RunFolder(values.run) if values.run is not None else newest_run()
    folder = _checked_folder(values.out) if values.out is not None else run.export
    if values.card:
        text = model_card(read_run(run))
        folder.path.mkdir(exist_ok=True)
        with replacing(folder.card) as file:
            file.write(text)
        log.info("%s", folder.card)
        if not values.page:
            return
    export = export_of(run, folder) if values.page else None
    if export is None:
        export = export_run(run, folder, data=values.data, max_drop=values.max_drop)
        Console().print(export_table(export))
        for name, reason in export.left_out.items():
            log.info("%s was not written: %s", name, reason)
        log.info("%s: gfnet export --check %s checks it again", folder.path, folder.path)
    if values.page or folder.page.is_file():  # an earlier page would be of another net
        write_page(folder, export)
        log.info("%s: open it in a browser; it needs no network", folder.page)


def _checked_folder(path: Path) -> ExportFolder:
    if path.exists() and not path.is_dir():
        raise UserError(f"--out: {path} is a file; name a folder")
    if not path.absolute().parent.is_dir():
        raise UserError(f"--out: {path.parent} is not a folder; make it first")
    return ExportFolder(path)


def checks_table(checks: list[Checked]) -> Table:
    """What came of the checks: a row per format."""
    sets = list(checks[0].accuracy)
    words = "differs by: the largest difference of a logit; changed: pictures with another class; vectors: the largest "
    words += "difference of any output on the test vectors"
    table = Table(caption=words, box=None, pad_edge=False)
    for heading in ("format", "pictures", "differs by", "changed", *sets, "vectors"):
        table.add_column(heading, justify="left" if heading == "format" else "right", no_wrap=True)
    for each in checks:
        compared = each.name != CHECKPOINT
        table.add_row(
            each.name,
            f"{each.pictures:,}",
            f"{each.difference:.1e}" if compared and each.pictures else "-",
            f"{each.changed:,}" if compared and each.pictures else "-",
            *(f"{100 * each.accuracy[name]:.2f}" for name in sets),
            f"{each.vectors:.1e}" if compared else "-",
        )
    return table


def export_table(export: Export) -> Table:
    """The formats with their size, accuracy and speed: a row per format, that of the checkpoint in PyTorch first."""
    caption = f"{export.description.source}. {export.legend}"
    table = Table(caption=Text(printable(caption)), box=None, pad_edge=False)
    for heading in export.headings:
        table.add_column(heading, justify="left" if heading == "format" else "right", no_wrap=True)
    for row in export.rows:
        table.add_row(*row)
    return table
