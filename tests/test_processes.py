"""Memory that stays, counted by page faults in a process of its own (the setting is for good), and child processes."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gfnet_pl.errors import UserError
from gfnet_pl.processes import EndedEarly, in_processes

PROGRAM = """
import resource, sys
import torch
from gfnet_pl.processes import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()

def step():
    tensors = [torch.ones(6_000_000) for _ in range(6)]  # 24 MB each
    big = torch.ones(20_000_000)

for _ in range(8):  # until the heap has settled
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_a_step_takes_no_memory_that_the_step_before_has_freed():
    faults = {}
    for mode in ("keep", "plain"):
        command = [sys.executable, "-c", PROGRAM, mode]
        faults[mode] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert faults["plain"] > 10_000
    assert faults["keep"] < 100


def test_cores_are_those_that_the_process_may_use():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("the system does not say")
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    code += "from gfnet_pl.processes import cores; print(cores())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.fixture(autouse=True)
def found_by_the_children(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def test_work_is_done_in_order_by_other_processes():
    found = list(in_processes(work, [3, 1, 2], "x", processes=2))
    assert [value["text"] for value, _ in found] == ["xxx", "x", "xx"]
    assert [beside for _, beside in found] == [b"\x03", b"\x01", b"\x02"]
    assert os.getpid() not in {value["pid"] for value, _ in found}
    assert len({value["pid"] for value, _ in found}) <= 2
    assert list(in_processes(work, [], "x")) == []


@pytest.mark.parametrize(("task", "error", "words"), [("user", UserError, "mend it"), ("system", OSError, "No space")])
def test_an_error_comes_back_as_it_was(task, error, words):
    with pytest.raises(error, match=words) as caught:
        list(in_processes(work, [task], "x"))
    assert not isinstance(caught.value, OSError) or caught.value.errno == errno.ENOSPC


def test_a_process_that_ends_is_said():
    with pytest.raises(EndedEarly):
        list(in_processes(work, ["end"], "x"))


def work(task, text):
    if task == "user":
        raise UserError("mend it")
    if task == "system":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if task == "end":
        os._exit(1)
    print("a library that prints must not disturb the answers")
    return {"text": text * task, "pid": os.getpid()}, bytes([task])
