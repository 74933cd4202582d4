"""The words of --help agree with what the parsers take."""

import re

import pytest
from jsonargparse import ArgumentParser

from gfnet_pl.cli import COMMANDS, TRAINER_COMMANDS, main
from gfnet_pl.help import HELP, OF_COMMAND
from gfnet_pl.training import sweep
from gfnet_pl.training.lightning_cli import GFNetCLI


@pytest.fixture(scope="module")
def parsers():
    """The parser of each subcommand."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GFNetCLI, "parse_arguments", lambda *_: (_ for _ in ()).throw(InterruptedError))
        for command in TRAINER_COMMANDS:
            cli = object.__new__(GFNetCLI)
            with pytest.raises(InterruptedError):
                cli.__init__([command], [command], None, None)  # nothing runs, so nothing is to stop
            assert cli._subcommand_parsers.keys() == {command}  # it waits for no other
            found |= cli._subcommand_parsers
    return found


def test_help_names_every_command():
    assert all(re.search(rf"^  gfnet {command}\b", HELP, re.MULTILINE) for command in COMMANDS)


@pytest.mark.parametrize("command", OF_COMMAND)
def test_help_of_a_command_is_short_and_true(command, parsers, capsys):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert main(["help", command]) == 0
    assert capsys.readouterr().out == text
    assert len(text.splitlines()) <= 40
    assert max(map(len, text.splitlines())) <= 80
    if command == "sweep":
        defaults = {action.dest: action.default for action in sweep._parser()._actions}
    else:
        parser: ArgumentParser = parsers[command]
        defaults = dict(parser.get_defaults().items())
    options = re.findall(r"--([a-z_.]+)", text)
    assert len(options) > 4
    assert set(options) - {"help", "help-all", "help-", "config"} <= defaults.keys()
    checked = 0
    for option, said in re.findall(r"^  --([a-z_.]+) .*?\(([^() ]+)\)$", text, re.MULTILINE):
        if said != "all":
            assert str(defaults[option]).lower() in (said, f"{said}.0"), option
            checked += 1
    assert checked >= {"fit": 14, "sweep": 3}.get(command, 0)


def test_all_of_the_help_says_our_defaults_only(parsers):
    for parser in parsers.values():
        text = parser.format_help()
        assert "Default: ``" not in text
        assert "1000" not in text
        assert "runs/<stage>/version_N" in text
        assert text.startswith("usage: gfnet ")
        assert len(text.partition("options:")[0].splitlines()) < 6


def test_help_all_shows_the_parsers_help(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["validate", "--help-all"])
    assert stop.value.code == 0
    assert "--trainer.limit_val_batches" in capsys.readouterr().out
