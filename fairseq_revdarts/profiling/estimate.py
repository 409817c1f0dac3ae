"""Memory and hours of a training before it runs, and what these figures rest on.

Memory and arithmetic are counted in single steps on the meta device (rehearsal.py), at the size of
a whole batch. Hours need a rate, operations per second: it is given, measured, or that of the only
search of this kind whose cost is known.
"""

from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, ContextManager, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
from fairseq.models import FairseqEncoderDecoderModel
from omegaconf import OmegaConf
from torch import nn

from ..modules.architecture import Architecture
from ..search.strategies import BY_NAME
from ..search.strategy import ALL_LIVING, Active
from ..search_space import CANDIDATES
from .measure import Steps, is_out_of_memory, measure_time
from .rehearsal import Counts, rehearse
from .schedule import MOMENTS, Moment, moments_of
from .training import Training

#: What the search of the paper reached on a V100: 320 V100-hours (as reported) for the operations
#: that this file counts for it, with `--search-strategy darts` and a vocabulary of 33,000.
V100_HOURS, V100_OPERATIONS = 320, 7.61e18
V100_RATE = V100_OPERATIONS / (V100_HOURS * 3600)
#: Bytes of a number: of gradients in half precision, of anything in single precision.
HALF, SINGLE = 2, 4
MOMENTS_OF_ADAM = 2
#: On a CPU the rate is measured with so many tokens at most, on a GPU with a whole batch.
CPU_TOKENS = 1000


@dataclass(frozen=True)
class Cost:
    """What one process of a training takes.

    Args:
        parameters: of the model, those of alpha included
        activations: the peak, in bytes
        operations: floating-point operations of an update, in the mean over the schedule
    """

    parameters: int
    activations: int
    operations: float


def cost_of(training: Training) -> Cost:
    """Count what `training`, on the meta device, takes. Raises a ValueError as `Training.model`."""
    model = training.model()
    steps = Steps(training, model)
    # A search has them from the start, in one buffer; elsewhere a later batch adds to them.
    if training.searches or training.update_freq > 1:
        for weight in steps.weights:
            weight.grad = torch.empty_like(weight)
    evaluated = evaluated_by(training, model)
    peak, operations = 0, 0.0
    for level, actives in evaluated.items():
        by_size = {_size(active): active for active in actives}
        ends = sorted({min(by_size), max(by_size)})
        counts = [_rehearsed(steps, level, by_size[size]) for size in ends]
        peak = max(peak, *(count.memory for count in counts))
        # Between the ends, operations grow in proportion with the candidates.
        flops = np.interp(list(map(_size, actives)), ends, [count.flops for count in counts])
        operations += float(flops.sum()) / len(evaluated["theta"])
    parameters = sum(weight.numel() for weight in model.parameters())
    return Cost(parameters, peak, training.update_freq * operations)


def _rehearsed(steps: Steps, level: str, active: Active) -> Counts:
    with restricted(steps.model, active):
        return rehearse(steps, steps.named()[level])


def restricted(model: FairseqEncoderDecoderModel, active: Active) -> ContextManager[None]:
    """Within it, the supernet `model` evaluates `active` alone; nothing for other models."""
    return model.architecture.restricted_to(active) if active else nullcontext()


def evaluated_by(training: Training, model: FairseqEncoderDecoderModel) -> Dict[str, List[Active]]:
    """What the steps of "theta", and of a search also of "alpha", evaluate in a training."""
    if getattr(model, "architecture", None) is None:
        return {"theta": [ALL_LIVING]}
    thetas, alphas = zip(*_moments(training, model))
    moving = [alpha for alpha in alphas if alpha is not None]
    return {"theta": list(thetas), **({"alpha": moving} if moving else {})}


def _moments(training: Training, model: FairseqEncoderDecoderModel) -> Iterator[Moment]:
    """Of a supernet; the candidates are named, because those that live cannot be read from meta."""
    architecture = _with_data(model.architecture, training.cfg.common.seed)
    flags = OmegaConf.to_container(training.cfg.task, resolve=True)
    moments: Iterator[Moment] = iter([Moment(ALL_LIVING, None)])
    if training.searches:
        start = round(flags["alpha_start"] * MOMENTS / training.updates)
        short = SimpleNamespace(**{**flags, "max_update": MOMENTS, "alpha_start": start})
        stand_in: Any = SimpleNamespace(architecture=architecture, stacks=model.stacks)
        moments = moments_of(BY_NAME[flags["search_strategy"]](stand_in, short))
    for theta, alpha in moments:
        living = {side: architecture.living(side) for side in CANDIDATES}
        yield Moment({**living, **theta}, None if alpha is None else {**living, **alpha})


def _with_data(architecture: Architecture, seed: int) -> Architecture:
    """A copy on the CPU with a random alpha: so a schedule leaves random candidates."""
    generator = torch.Generator().manual_seed(seed)
    copy = deepcopy(architecture)
    nn.Module._apply(copy, lambda tensor: torch.zeros_like(tensor, device="cpu"))
    copy.reset_updates()
    for alpha in copy.alphas():
        alpha.data.normal_(generator=generator)
    return copy


def _size(active: Active) -> int:
    """How many candidates are evaluated."""
    return sum(len(node) for side in active.values() for layer in side for node in layer)


def bytes_per_parameter(training: Training) -> int:
    """Of weights, gradients and the moments of Adam; of the reducer's buckets."""
    common, distributed = training.cfg.common, training.cfg.distributed_training
    moments = MOMENTS_OF_ADAM * SINGLE
    if training.precision == "fp32":
        gradient, rest = SINGLE, SINGLE + moments
    else:
        efficient = common[f"memory_efficient_{training.precision}"]
        gradient, rest = HALF, HALF + moments + (0 if efficient else 2 * SINGLE)
    buckets = training.processes > 1 and not distributed.gradient_as_bucket_view
    return gradient + rest + (gradient if buckets else 0)


def rate_of(training: Training) -> Tuple[float, str]:
    """Floating-point operations per second of one process, and where the number comes from."""
    device = "cpu" if training.cfg.common.cpu else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        return V100_RATE, f"as the paper's search on a V100 ({V100_HOURS} hours as reported)"
    tokens = min(training.tokens, CPU_TOKENS) if device == "cpu" else training.tokens
    name = "this CPU" if device == "cpu" else torch.cuda.get_device_name()
    try:
        rate = measured_rate(replace(training, tokens=tokens), device)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return V100_RATE, f"as the paper's search on a V100; {name} has too little memory"
    return rate, f"measured on {name} in a step of {tokens:,} tokens"


def measured_rate(training: Training, device: str) -> float:
    """Time a step of theta on `device`, after one that warms up. Raises what the device raises."""
    model = training.model()
    active = max(evaluated_by(training, model)["theta"], key=_size)
    counts = _rehearsed(Steps(training, model), "theta", active)
    real = replace(training, device=device)
    steps = Steps(real, real.model())
    with restricted(steps.model, active):
        _, seconds = (measure_time(steps, steps.theta) for _ in range(2))
    return counts.flops / seconds


def describe(
    training: Training, cost: Cost, rate: Tuple[float, str], memory: Optional[float] = None
) -> str:
    """The estimate and what it rests on, in lines of at most 100 columns.

    Args:
        training, cost: what is estimated
        rate: as `rate_of`
        memory: of a device in GB, for a word on whether it suffices; or None
    """
    processes, per_parameter = training.processes, bytes_per_parameter(training)
    kept = per_parameter * cost.parameters
    needed = (kept + cost.activations) / 1e9
    fits = "" if memory is None else f"; fits {memory:g} GB: {'yes' if needed <= memory else 'no'}"
    tokens = training.tokens * training.update_freq * processes
    hours = cost.operations * training.updates / rate[0] / 3600
    mean = "theta and alpha, mean over the schedule" if training.searches else "forward, backward"
    return f"""\
estimate: {cost.parameters / 1e6:.1f} M parameters, {training.updates:,} updates of {tokens:,} \
tokens ({processes} x {training.tokens:,}, --update-freq {training.update_freq})
memory of a process: {_in_bytes(needed * 1e9)}{fits}
  {_in_bytes(kept)}: weights, gradients and Adam, {per_parameter} bytes per parameter
  {_in_bytes(cost.activations)}: activations, counted in a step of {training.tokens:,} tokens in \
sentences of {training.length}
time: {hours:,.1f} hours, {hours * processes:,.1f} for all processes together
  {cost.operations:.2e} operations per update and process, counted ({mean})
  {rate[0]:.2e} operations per second, {rate[1]}
not counted: a device's own needs, the optimizer, data, validation; expect an error of half"""


def _in_bytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
