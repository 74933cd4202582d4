"""What SIGTERM, SIGHUP and Ctrl-C do to a training: it finishes its step, writes last.ckpt, and ends with 128 + n.

Lightning's handlers do otherwise: with SIGTERM it ends without a checkpoint, and its messages to other devices from
within a handler may wait for ever. Here a handler only takes a note while the net is trained, and the devices agree at
the end of each step. Before and after training it ends the command at once.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from lightning.pytorch import Trainer

NAMES = ("SIGTERM", "SIGHUP", "SIGINT")  # Windows has no SIGHUP


class Stopped(BaseException):
    """A signal has ended the command. It is no fault, so it is no Exception.

    Args:
        number: The signal.
        agreed: Whether all devices stop, after a step.
    """

    def __init__(self, number: int, *, agreed: bool = False) -> None:
        super().__init__(signal.Signals(number).name)
        self.number, self.agreed = number, agreed


class Stop:
    """The signal that has come, if one has.

    Attributes:
        number: It; 0 if none has come.
        deferred: Whether the net is being trained, so that a signal waits for the end of the step.
    """

    def __init__(self) -> None:
        self.number = 0
        self.deferred = False
        self._came = 0.0

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handles the signals in this block, except those that are ignored, as `nohup` and a shell's `&` do."""
        before = {}
        if threading.current_thread() is threading.main_thread():
            for number in [getattr(signal, name) for name in NAMES if hasattr(signal, name)]:
                if signal.getsignal(number) != signal.SIG_IGN:
                    before[number] = signal.signal(number, self._handle)
        usual = sys.unraisablehook

        def again(unraisable: "sys.UnraisableHookArgs") -> None:
            """Python drops what is raised within a destructor, and shows it: then the signal comes once more."""
            if isinstance(stopped := unraisable.exc_value, Stopped):
                self.number = 0
                threading.Timer(0.1, os.kill, (os.getpid(), stopped.number)).start()
            else:
                usual(unraisable)

        sys.unraisablehook = again
        try:
            yield
        finally:
            sys.unraisablehook = usual
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def waits(self) -> float:
        """Seconds since the signal came; 0 if none has."""
        return time.monotonic() - self._came if self.number else 0.0

    def agreed(self, trainer: Trainer) -> int:
        """The signal that any of the devices has got; all of them must ask at once. 0 if none has come."""
        if trainer.world_size == 1:
            return self.number
        mine = torch.tensor(self.number, device=trainer.strategy.root_device)
        highest = trainer.strategy.reduce(mine, reduce_op="max")
        self.number = int(highest)
        return self.number

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            if number == signal.SIGINT and "ipykernel" in sys.modules:
                raise KeyboardInterrupt
            if number == signal.SIGINT:
                os._exit(128 + number)  # the second Ctrl-C: at once, whatever hangs
            return  # some programs send SIGTERM twice
        self.number, self._came = number, time.monotonic()
        if not self.deferred:
            raise Stopped(number)


def is_started_by_lightning() -> bool:
    """Whether the first process of the training has started this one as another device's."""
    by_others = {"TORCHELASTIC_RUN_ID", "SLURM_PROCID", "PMI_RANK", "OMPI_COMM_WORLD_RANK"} & os.environ.keys()
    return os.environ.get("LOCAL_RANK", "0") != "0" and not by_others
