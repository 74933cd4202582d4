"""`make faults` in a short form: a few tries of each loop but that of failing writes, which test_disk.py has."""

import subprocess
import sys
from pathlib import Path

import pytest

LOOPS = ["nothing", "kills", "signals", "limits", "pictures", "sets", "files", "words"]


@pytest.mark.skipif(sys.platform != "linux", reason="the faults are made by Linux's means")
def test_a_few_faults_of_each_kind_are_survived():
    command = [sys.executable, str(Path(__file__).with_name("faults.py")), "--share=0.003", "--only", *LOOPS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == LOOPS
