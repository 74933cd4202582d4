"""The `gfnet` command. Each subcommand imports only what it needs, so help and errors appear at once.

LightningCLI runs fit, validate and test (`training/lightning_cli.py`). Plain functions run the others.
"""

import os
import signal
import sys
import traceback
from contextlib import redirect_stdout, suppress
from pathlib import Path

from gfnet_pl import __version__
from gfnet_pl.errors import OneLineParser, UserError, nearest, one_line, told_by_system
from gfnet_pl.help import HELP, OF_COMMAND
from gfnet_pl.messages import messages, say, use_plain_characters

TRAINER_COMMANDS = ("fit", "validate", "test")
_IN_PACKAGE = Path(__file__).parent / "configs"
_IN_CHECKOUT = Path(__file__).parents[2] / "configs"
_GROUPS = ("--trainer", "--model", "--data", "--tf32", "--data.augment")  # each takes a file, or settings in braces
COMMANDS = (*TRAINER_COMMANDS, "predict", "enrol", "report", "export", "curve", "sweep", "runs", "audit", "hand-signs")
_RECIPE = ("base.yaml", "quick.yaml", "robust.yaml")
_ROOT = "--data.root"
_WITHOUT_VALUE = ("-h", "--help", "--help-all", "--print_config")


def main(args: list[str] | None = None) -> int:
    """Runs a command.

    Args:
        args: The command line without the program's name; default: that of this process.

    Returns:
        The exit status: 0; 2 after an error that the user can correct, which one line on standard error describes; 1
        after a fault of this package, whose traceback is shown; 130 after Ctrl-C; 141 if nobody reads the output.
    """
    args = list(sys.argv[1:] if args is None else args)
    use_plain_characters()
    try:
        with messages():
            status = _run(args)
        if sys.stdout:
            sys.stdout.flush()
        return status
    except UserError as error:
        return _end(f"error: {error}", 2)
    except BrokenPipeError:
        with suppress(OSError, ValueError):  # a test's stream is no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes out the rest when it ends
        return 141  # 128 + SIGPIPE, which Windows has not
    except KeyboardInterrupt:
        return _end("stopped", 128 + signal.SIGINT)
    except Exception as error:
        if told := told_by_system(error):
            return _end(f"error: {told}", 2)
        traceback.print_exc()
        where = " ".join(getattr(error, "__notes__", []))
        return _end(f"fault: {one_line(error)}: an error in gfnet_pl, please report it. {where}".rstrip(), 1)


def _end(line: str, status: int) -> int:
    if sys.stderr:
        with suppress(OSError):  # nobody reads it
            say(f"gfnet: {line}", sys.stderr)
    return status


def _run(args: list[str]) -> int:
    if args[:1] == ["help"] and args[1:]:  # gfnet help fit
        args = [args[1], "--help"]
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if args[0] == "--version":
        print(f"gfnet_pl {__version__}")
        return 0
    command = args[0]
    if command == "hand-signs":
        return _hand_signs(_at_home(args[1:]))
    if command not in COMMANDS:
        raise UserError(f"unknown command {command!r}{nearest(command, list(COMMANDS))}")
    if command == "runs":
        from gfnet_pl.run.listing import run_runs

        run_runs(args[1:])
        return 0
    if command in OF_COMMAND and {"-h", "--help"} & set(args):
        print(OF_COMMAND[command], end="")
        return 0
    from gfnet_pl.processes import keep_freed_memory

    keep_freed_memory()
    if command == "audit":
        from gfnet_pl.audit.audit import run_audit

        run_audit(_at_home(args[1:]))
        return 0
    if command == "predict":
        from gfnet_pl.export.predict import run_predict

        run_predict(_at_home(args[1:]))
        return 0
    if command == "enrol":
        from gfnet_pl.export.enrol import run_enrol

        run_enrol(_at_home(args[1:]))
        return 0
    if command == "report":
        from gfnet_pl.report.command import run_report

        run_report(_at_home(args[1:]), _test)
        return 0
    if command == "export":
        from gfnet_pl.export.command import run_export

        run_export(_at_home(args[1:]))
        return 0
    if command == "curve":
        from gfnet_pl.training.curve import run_curve

        run_curve(_at_home(args[1:]))
        return 0
    if command == "sweep":
        from gfnet_pl.training.sweep import run_sweep

        run_sweep(_with_paths(_with_recipe(_with_folder(["fit", *args[1:]])))[1:], args[1:])
        return 0
    from gfnet_pl.training.lightning_cli import run_trainer

    args = ["--help" if word == "--help-all" else word for word in args]
    run_trainer(_with_paths(_with_recipe(_with_folder(args))), args)
    return 0


def _test(checkpoint: Path) -> None:
    """Tests a checkpoint for `gfnet report`. With --json, standard output must contain only JSON."""
    from gfnet_pl.training.lightning_cli import run_trainer

    command = ["test", "--ckpt_path", str(checkpoint)]
    with redirect_stdout(sys.stderr):
        run_trainer(command, command)


def _hand_signs(args: list[str]) -> int:
    from gfnet_pl.hand_signs.files import write_hand_signs

    parser = OneLineParser("gfnet hand-signs", description="Write the synthetic hand-sign data set.")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    words = "1, or 2: better hands, Dev and Unseen of 16 signers each, a table of how they differ (default 1)"
    parser.add_argument("--version", type=int, default=1, help=words)
    parser.add_argument("--signers", type=int, default=None, help="signers in Train (default 64, in version 2 384)")
    words = "pictures per signer and class (default 6, in version 2 1)"
    parser.add_argument("--frames", type=int, default=None, help=words)
    words = "signers in Unseen only, in version 2 half of them in Dev (default 8, in version 2 32)"
    parser.add_argument("--unseen-signers", type=int, default=None, help=words)
    parser.add_argument("--seed", type=int, default=0, help="another seed is another set (default 0)")
    values = vars(parser.parse_args(args))
    print(write_hand_signs(values.pop("out"), **values))
    return 0


def find_config(name: str) -> Path:
    """Finds a config.

    Args:
        name: A path, or a file name in ./configs or among the configs of the package. They are tried in this order.

    Raises:
        UserError: There is no such config. The message suggests the most similar name.
    """
    folders = [Path("configs"), _IN_PACKAGE if _IN_PACKAGE.is_dir() else _IN_CHECKOUT]
    for candidate in (Path(name).expanduser(), *(folder / name for folder in folders)):
        if candidate.is_file():
            _check_config(candidate)
            return candidate
    known = sorted({path.name for folder in folders for path in folder.glob("*.yaml")})
    raise UserError(f"--config: no file {name}, nor one of that name in ./configs or the package{nearest(name, known)}")


def _check_config(path: Path) -> None:
    """Names the file of a mistake that the parser would tell without it."""
    import yaml  # type: ignore[import-untyped]  # here, because help needs none

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise UserError(f"--config: {path} is not UTF-8 text: save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise UserError(f"--config: {path} is no YAML: {one_line(error)}") from None
    if not isinstance(settings, dict):
        raise UserError(f"--config: {path} must hold keys with values, and sections with keys")


def _with_folder(args: list[str]) -> list[str]:
    """Puts the plain word of `gfnet fit`, its folder, behind its option.

    Another option takes the word that follows it, unless its value stands behind "=". Words behind "--" are plain.
    """
    if args[0] != "fit":
        return args
    options: list[str] = []
    paths: list[str] = []
    words = iter(args[1:])
    for word in words:
        _, equals, _ = word.partition("=")
        if word == "--":
            paths += words
        elif not word.startswith("-"):
            paths.append(word)
        else:
            options.append(word)
            if not equals and word not in _WITHOUT_VALUE:
                options += [next(words, "")]
    if paths and paths[0].endswith((".yaml", ".yml")):
        raise UserError(f"{paths[0]} looks like a config: write --config {paths[0]}")
    if len(paths) > 1 or (paths and any(word.partition("=")[0] == _ROOT for word in options)):
        raise UserError(f"gfnet fit takes one folder of pictures, and here is {paths[-1]!r} besides; drop it")
    return ["fit", *options, *[f"{_ROOT}={path}" for path in paths]]


def _with_recipe(args: list[str]) -> list[str]:
    """Lets the embedded data be trained by the README's recipe where nothing says what or how to train."""
    said = {word.partition("=")[0] for word in args[1:]}
    if args[0] != "fit" or said & {"--config", "-c", "--ckpt_path", _ROOT, "--data", "-h", "--help"}:
        return args
    return [*args, *(word for name in _RECIPE for word in ("--config", name))]


def _at_home(args: list[str]) -> list[str]:
    """Replaces `~` by the home folder, also in `--out=~/page.html`, where a shell leaves it."""
    parts = [word.partition("=") if word.startswith("--") else ("", "", word) for word in args]
    return [name + equals + os.path.expanduser(value) for name, equals, value in parts]


def _with_paths(args: list[str]) -> list[str]:
    """The words of a command as the parser needs them.

    Names of configs become paths. Configs come first and settings of a whole group next, so that single flags win
    wherever they stand.
    """
    command, words = args[:1], iter(args[1:])
    configs, groups, flags = [], [], []
    for word in words:
        name, equals, value = word.partition("=")
        if name in ("--config", "-c"):
            configs += ["--config", str(find_config(value if equals else next(words, "")))]
        elif name in _GROUPS:
            groups.append((_GROUPS.index(name), f"{name}={value if equals else next(words, '')}"))
        else:
            flags.append(word)
    return [*command, *configs, *(word for _, word in sorted(groups, key=lambda group: group[0])), *flags]
