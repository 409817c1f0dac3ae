"""The memory that the operating system sees: the peak resident size of a process that takes steps.

Live bytes of tensors (live_memory.py) are what a step needs. A process takes more, because freed
memory goes back to the system only in part, and a heap has holes. What a user sees in top is this.
"""

import gc
import multiprocessing
import re
import sys
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Callable, Optional

import torch

from .measure import Steps
from .workload import Workload

STATUS, FORGET_PEAK = "/proc/self/status", "/proc/self/clear_refs"


def resident_peak(workload: Workload, build: Callable[[], Steps]) -> Optional[int]:
    """Bytes that a new process takes in `build()`'s steps, weights and gradients not counted.

    An update has two micro-batches. None where the system does not tell (it is no Linux), or the
    memory does not suffice.

    Args:
        workload: of the steps
        build: makes the steps; can be pickled
    """
    if not sys.platform.startswith("linux"):
        return None
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    receiver, sender = context.Pipe(duplex=False)
    arguments = (workload, build, torch.get_num_threads(), sender)
    process = context.Process(target=_take_steps, args=arguments, daemon=True)
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:  # it has ended without an answer
        return None
    finally:
        process.join()


def _take_steps(
    workload: Workload, build: Callable[[], Steps], threads: int, sender: Connection
) -> None:
    gc.freeze()  # as in `compare`
    torch.set_num_threads(threads)
    steps = build()
    whole, steps.batch = steps.batch, replace(workload, tokens=workload.length).batch()
    _pair(steps)  # what is loaded and made at first use belongs to no step
    steps.theta()  # gradients are there, as weights are
    steps.batch = whole
    before = _size("VmRSS")
    with open(FORGET_PEAK, "w") as file:
        file.write("5")
    _pair(steps)
    sender.send(max(0, _size("VmHWM") - before))


def _pair(steps: Steps) -> None:
    steps.clear()
    steps.theta()
    steps.theta()
    if "alpha" in steps.named():
        steps.clear()
        steps.alpha()


def _size(name: str) -> int:
    """Bytes, from what the system says of this process."""
    with open(STATUS, encoding="ascii") as file:
        return 1024 * int(re.search(rf"^{name}:\s+(\d+) kB$", file.read(), re.MULTILINE).group(1))
