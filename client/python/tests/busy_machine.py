"""How busy other programs keep the machine, so that a bar of time is judged where it can be."""

import os
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


class Others:
    """`share` of the machine that programs had, in the block, which are neither this one nor started by it."""

    def __enter__(self):
        self._began = time.monotonic(), _all() - _ours()
        return self

    def __exit__(self, *_exception):
        began, used = self._began
        self.share = (_all() - _ours() - used) / TICKS / (time.monotonic() - began) / os.cpu_count()


def _all():
    """The ticks of all programs, and of machines that this one shares its processors with."""
    user, nice, system, _idle, _waits, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return user + nice + system + irq + softirq + steal


def _ours():
    """The ticks of this process and all that it started."""
    found = {}
    for process in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = process.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended
        found[int(process.parent.name)] = int(fields[1]), int(fields[11]) + int(fields[12])
    ours = {os.getpid()}
    while more := {process for process, (parent, _) in found.items() if parent in ours} - ours:
        ours |= more
    return sum(found[process][1] for process in ours if process in found)
