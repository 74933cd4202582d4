"""A training on several devices loses one of its processes: the others end too, and one line says which it was.

Otherwise gloo shows a traceback that names a port, NCCL waits, and Lightning's observer kills the first process without
a word. Of processes that Lightning did not start (torchrun, Slurm) each knows only that another one is gone; what
started them says which, and ends them.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time

from torch.distributed import DistError

from gfnet_pl.messages import say
from gfnet_pl.run.folder import LAST
from gfnet_pl.training.stopping import is_started_by_lightning

PATIENCE = 5.0  # seconds for what ends by itself

_EVERY = 0.5  # seconds between two looks
_OF_GLOO = re.compile(r"gloo/|Connection (closed|reset|refused)|Socket closed|Broken pipe", re.IGNORECASE)
_AGAIN = f"so all end; a training goes on with gfnet fit --ckpt_path {LAST}"
_lost: list[str] = []  # what is known about the process that was lost


def observe(child_processes: list[subprocess.Popen[bytes]]) -> None:
    """Watches the processes that the first one has started for other devices: in the place of Lightning's observer."""
    threading.Thread(target=_watch_children, args=(child_processes,), daemon=True, name="observe-children").start()


def observe_first() -> None:
    """Watches the process that has started this one."""
    threading.Thread(target=_watch_first, args=(os.getppid(),), daemon=True, name="observe-first").start()


def told_of_loss(error: Exception) -> str | None:
    """What to say of an error that came of the loss of another process; None if it did not.

    Raises:
        SystemExit: Another process says it.
    """
    if not (isinstance(error, DistError) or (isinstance(error, RuntimeError) and _OF_GLOO.search(str(error)))):
        return None
    until = time.monotonic() + PATIENCE
    while not _lost and time.monotonic() < until:
        time.sleep(0.1)
    if is_started_by_lightning():
        time.sleep(PATIENCE)  # if the first process is lost, `_watch_first` says so meanwhile
        raise SystemExit(2)
    return _lost[0] if _lost else f"another process of this training is lost or out of reach, {_AGAIN}"


def _watch_children(children: list[subprocess.Popen[bytes]]) -> None:
    while not any(codes := [child.poll() for child in children]):
        if None not in codes:  # all have ended well
            return
        time.sleep(_EVERY)
    rank = next(number for number, code in enumerate(codes, 1) if code)
    code = codes[rank - 1] or 0
    how = signal.Signals(-code).name if code < 0 else f"status {code}"
    _lost.append(f"process {rank} of {len(children) + 1} is lost ({how}), {_AGAIN}")
    time.sleep(2 * PATIENCE)  # the first process ends by itself if it was waiting for an answer by gloo
    for child in children:
        child.kill()
    _end(_lost[0])


def _watch_first(first: int) -> None:
    while os.getppid() == first:
        time.sleep(_EVERY)
    time.sleep(PATIENCE)  # after a training, this process ends by itself
    _end(f"process 0 is lost, {_AGAIN}" if os.environ.get("LOCAL_RANK") == "1" else "")


def _end(line: str) -> None:
    if line:
        say(f"gfnet: error: {line}", sys.stderr)
    os._exit(2)
