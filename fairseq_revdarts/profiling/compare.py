"""Measures a network under each way of backpropagation, and what it is compared with."""

import gc
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, List, Optional

from ..models.revdarts_transformer.config import BACKPROP_MODES
from ..search.gradient_buffer import GradientBuffer
from .measure import (
    Steps,
    generation_speed,
    is_out_of_memory,
    measure_drift,
    measure_memory,
    measure_time,
)
from .resident import resident_peak
from .schedule import ScheduledSteps
from .workload import Workload

#: The measurements of one network. Bytes of a step by its name, "theta" or "alpha"; seconds of each
#: run under "theta_seconds", "alpha_seconds" and "pair_seconds"; bytes of a process, "resident".
Row = Dict[str, Any]


@dataclass(frozen=True)
class Contestant:
    """One row of a comparison.

    Args:
        name: in the table
        backprop: way of backpropagation; None for fairseq's transformer
        all_gradients: take the gradients of theta and alpha in both steps, as plain DARTS does
        strategy: of a search whose schedule is timed; None if all candidates live
    """

    name: str
    backprop: Optional[str]
    all_gradients: bool = False
    strategy: Optional[str] = None


MODES = [Contestant(mode, mode) for mode in BACKPROP_MODES]
OF_A_SUPERNET = [
    *MODES,
    *(Contestant(f"{mode}, all gradients", mode, True) for mode in ("checkpoint", "store")),
]
OF_A_GENOTYPE = [*MODES, Contestant("fairseq transformer", None)]


def compare(
    workload: Workload,
    flags: Dict[str, Any],
    runs: int,
    report: Callable[[str], None],
    strategy: Optional[str] = None,
) -> List[Row]:
    """Memory and time of each contestant, measured in turn.

    Args:
        workload: batch, precision and device
        flags: of the configuration of `revdarts_transformer`
        runs: timed steps of each
        report: is told what is measured next
        strategy: of a search, for rows with the mean over its schedule

    Returns:
        a row for each contestant; one for which the memory does not suffice says so in "failed"
    """
    contestants = OF_A_SUPERNET if flags["genotype"] is None else OF_A_GENOTYPE
    if strategy is not None:
        contestants = contestants + [
            Contestant(f"{mode}, {strategy}", mode, strategy=strategy)
            for mode in ("reconstruct", "store")
        ]
    rows: List[Row] = [{"network": contestant.name, "failed": None} for contestant in contestants]
    gc.freeze()  # what is imported is not searched for garbage at every step
    report("building the networks")
    try:
        all_steps = _build(workload, flags, contestants)
    except (RuntimeError, MemoryError) as error:
        return [{**row, "failed": _out_of_memory(error)} for row in rows]
    number, total = 0, len(rows) * (1 + runs)
    for run in range(-1, runs):  # the first measures memory, and warms up
        for row, contestant, steps in zip(rows, contestants, all_steps):
            number += 1
            measured = "memory" if run < 0 else f"time, run {run + 1} of {runs}"
            report(f"{number} of {total}: {contestant.name}, {measured}")
            if row["failed"] is None:
                _measure(row, contestant, steps, workload, run)
            if row["failed"] is None and run < 0 and workload.device == "cpu":
                build = partial(steps_alone, workload, flags, contestant)
                row["resident"] = resident_peak(workload, build)
    return [_with_pairs(row) for row in rows]


def _build(workload: Workload, flags: Dict[str, Any], contestants: List[Contestant]) -> List[Steps]:
    """The steps of each contestant; those of this package share one network."""
    model = workload.build(flags)
    parameters = sum(weight.numel() for weight in model.parameters())
    gradients = None
    if model.architecture is not None:
        gradients = GradientBuffer(model.parameters())

    def steps(contestant: Contestant) -> Steps:
        if contestant.backprop is None:
            size = (parameters, flags["encoder_layers"], flags["attention_heads"])
            return Steps(workload, workload.build_transformer(*size))
        if contestant.strategy is not None:
            return ScheduledSteps(workload, model, contestant.strategy, gradients)
        return Steps(workload, model, contestant.all_gradients, gradients)

    return [steps(contestant) for contestant in contestants]


def steps_alone(workload: Workload, flags: Dict[str, Any], contestant: Contestant) -> Steps:
    """The steps of one contestant, ready to be taken."""
    (steps,) = _build(workload, flags, [contestant])
    _set_backprop(steps, contestant)
    return steps


def _set_backprop(steps: Steps, contestant: Contestant) -> None:
    if contestant.backprop is not None:
        for stack in steps.model.stacks():
            stack.backprop = contestant.backprop


def _measure(row: Row, contestant: Contestant, steps: Steps, workload: Workload, run: int) -> None:
    """Add to `row`: run -1 measures memory, the others time."""
    _set_backprop(steps, contestant)
    try:
        if run < 0 and contestant == MODES[0]:
            row["drift"] = measure_drift(steps)
        for name, step in steps.named().items():
            if run < 0:
                row[name] = measure_memory(steps, step)
                row[f"{name}_seconds"] = []
            else:
                row[f"{name}_seconds"].append(measure_time(steps, step))
        if run >= 0 and not steps.alphas and contestant.backprop in (None, "store"):
            row.setdefault("generated_a_second", []).append(generation_speed(workload, steps.model))
    except (RuntimeError, MemoryError) as error:
        row["failed"] = _out_of_memory(error)
        steps.clear()


def _out_of_memory(error: Exception) -> str:
    """Stands in the table in place of figures; raises `error` if it is another one."""
    if not is_out_of_memory(error):
        raise error
    return "out of memory"


def _with_pairs(row: Row) -> Row:
    if row["failed"] is not None or "alpha" not in row:
        return row
    pairs = zip(row["theta_seconds"], row["alpha_seconds"])
    return {**row, "pair_seconds": [sum(pair) for pair in pairs]}
