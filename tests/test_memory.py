"""Counts page faults, in a process of its own: the setting cannot be taken back."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from gfnet_pl.training.memory import keep_freed_memory
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
