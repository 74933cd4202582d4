"""The `gfnet` command in processes of its own that are forked from one which has imported everything.

From nothing, a process needs seconds for its imports alone. What is claimed of several processes is claimed of these as
well: each has a memory, an environment and a status of its own. That a command starts from nothing, other tests show.
"""

import importlib
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

GFNET = str(Path(sys.executable).with_name("gfnet"))
_CONTEXT = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
_CONTEXT.set_forkserver_preload(
    ["gfnet_pl.training.lightning_cli", "gfnet_pl.export.predict", "gfnet_pl.training.sweep"]
)


class Forked:
    """A command that runs.

    Attributes:
        pid: Its process.
        returncode: Its status when it has ended, as `subprocess` has it.
        stdout: What it has written there when it has ended.
        stderr: The same.
    """

    def __init__(self, words, environment=None, settings=None):
        """Starts it.

        Args:
            words: The command line, without `gfnet`.
            environment: Variables besides those of this process.
            settings: Values of names in modules, as "gfnet_pl.module:NAME".
        """
        self._said = tempfile.TemporaryDirectory()
        files = [str(Path(self._said.name, name)) for name in ("stdout", "stderr")]
        everything = (list(map(str, words)), dict(os.environ) | (environment or {}), os.getcwd(), files, settings or {})
        self._process = _CONTEXT.Process(target=_run, args=everything)
        self._process.start()
        self.pid, self.returncode, self.stdout, self.stderr = self._process.pid, None, "", ""

    def wait(self, timeout=120):
        """Its status when it has ended. One that has not by then is killed."""
        self._process.join(timeout)
        hangs = self._process.exitcode is None
        self.kill()
        self.returncode = self._process.exitcode
        self.stdout, self.stderr = (
            Path(self._said.name, name).read_text(encoding="utf-8") for name in ("stdout", "stderr")
        )
        self._said.cleanup()
        assert not hangs, f"it had not ended after {timeout} s: {self.stdout}{self.stderr}"
        return self.returncode

    def kill(self):
        """Ends it if it has not ended."""
        self._process.kill()
        self._process.join()


def together(words, processes, environment=None, settings=None):
    """Starts the processes of one command as torchrun does on one machine, and waits for them.

    Args:
        words: The command line of all, or a list of that of each.
        processes: How many.
        environment: Variables besides those of this process.
        settings: As `Forked` takes them.

    Returns:
        Each `Forked`, by rank.
    """
    lines = words if isinstance(words[0], list) else [words] * processes
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    shared = {"TORCHELASTIC_RUN_ID": "x", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    shared |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "GROUP_RANK": "0"}
    started = [
        Forked(line, shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} | (environment or {}), settings)
        for rank, line in enumerate(lines)
    ]
    try:
        for each in started:
            each.wait()
    finally:
        for each in started:
            each.kill()
    return started


def _run(words, environment, folder, said, settings):
    multiprocessing.set_start_method(None, force=True)  # this one's own child processes start as usual
    for number, path in enumerate(said, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [GFNET, *words]
    for name in ("SIGTERM", "SIGHUP"):
        with suppress(AttributeError):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, value in settings.items():
        module, _, attribute = name.partition(":")
        setattr(importlib.import_module(module), attribute, value)
    from lightning.pytorch.utilities import rank_zero_only

    from gfnet_pl.cli import main

    rank_zero_only.rank = int(environment.get("RANK", environment.get("LOCAL_RANK", "0")))  # Lightning's import sets it
    sys.exit(main(words))
