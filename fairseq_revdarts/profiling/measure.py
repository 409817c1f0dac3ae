"""Memory and time of the steps of a search or of a training, for `revdarts-profile`."""

import gc
import time
from statistics import mean
from typing import Any, Callable, Dict, Iterator, List, Optional, Protocol, Tuple

import torch
from fairseq.criterions import FairseqCriterion
from fairseq.models import FairseqEncoderDecoderModel
from fairseq.sequence_generator import SequenceGenerator
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from ..search.bilevel import only_alpha_requires_grad
from ..search.gradient_buffer import GradientBuffer
from .live_memory import LiveMemory
from .workload import Workload


class HasSteps(Protocol):
    """What steps are taken on: a batch and its loss."""

    def batch(self) -> Dict[str, Any]:
        """As fairseq's datasets give it."""

    def criterion(self) -> FairseqCriterion:
        """The loss."""


class Steps:
    """The steps of a search over one network, without the optimizers.

    Args:
        workload: batch and loss
        model: the network
        all_gradients: take the gradients of theta and alpha in both steps, as plain DARTS does
        gradients: where a search has the gradients of theta; None elsewhere
    """

    def __init__(
        self,
        workload: HasSteps,
        model: FairseqEncoderDecoderModel,
        all_gradients: bool = False,
        gradients: Optional[GradientBuffer] = None,
    ):
        self.model, self.batch, self.all_gradients = model, workload.batch(), all_gradients
        self.gradients = gradients
        self.criterion = workload.criterion()
        architecture = getattr(model, "architecture", None)
        self.alphas: List[Tensor] = [] if architecture is None else architecture.alphas()
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]

    def theta(self) -> None:
        """Forward and backward of theta's loss; leaves gradients in the weights."""
        for alpha in self.alphas:
            alpha.requires_grad_(self.all_gradients)
        if self.gradients is not None:
            self.gradients.offer()
        self._loss().backward()

    def alpha(self) -> None:
        """Forward and backward of alpha's loss."""
        if self.all_gradients:
            self.theta()
            return
        with only_alpha_requires_grad(self.model):
            torch.autograd.grad(self._loss(), self.alphas)

    def named(self) -> Dict[str, Callable[[], None]]:
        """The steps that this network has."""
        return {"theta": self.theta, "alpha": self.alpha} if self.alphas else {"theta": self.theta}

    def moments(self) -> Iterator[None]:
        """The moments of a search at which a step costs something else: here one."""
        yield

    def existing(self) -> List[Tensor]:
        """The tensors that are there before a step."""
        of_batch = [leaf for leaf in tree_flatten(self.batch)[0] if isinstance(leaf, Tensor)]
        model = self.model
        return [*model.parameters(), *model.buffers(), *gradients_of(model), *of_batch]

    def clear(self) -> None:
        """Forget the gradients."""
        self.model.zero_grad(set_to_none=True)
        gc.collect()

    def _loss(self) -> Tensor:
        return self.criterion(self.model, self.batch)[0]


def measure_memory(steps: Steps, step: Callable[[], None]) -> Dict[str, int]:
    """Bytes of weights and of their gradients, and the peak of all else that lives in `step`.

    "activations" is the peak of the first micro-batch of an update. "later_activations" is that of
    a later one, whose gradients are added to those there are; a step without gradients has none.
    "reserved", on a GPU, is what its allocator takes for the same: more than lives.
    """
    steps.clear()
    result = {
        "weights": sum(weight.nbytes for weight in steps.model.parameters()),
        "activations": _activation_peak(steps, step),
        "gradients": sum(gradient.nbytes for gradient in gradients_of(steps.model)),
    }
    if result["gradients"]:
        result["later_activations"] = _activation_peak(steps, step)
    steps.clear()
    if steps.weights[0].is_cuda:
        result["reserved"] = _reserved_peak(steps, step)
    return result


def _reserved_peak(steps: Steps, step: Callable[[], None]) -> int:
    """Most bytes that a GPU's allocator has taken in `step`, for what the step does not keep."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before, living = torch.cuda.memory_reserved(), torch.cuda.memory_allocated()
    step()
    kept = torch.cuda.memory_allocated() - living  # gradients, unless a buffer holds them
    steps.clear()
    return torch.cuda.max_memory_reserved() - before - kept


def _activation_peak(steps: Steps, step: Callable[[], None]) -> int:
    """Most bytes that live in `step`, weights and their gradients not counted.

    On a GPU, what the allocator holds; elsewhere, live bytes of tensors.
    """
    device = steps.weights[0].device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        step()
        # What is left: weights, gradients and other networks.
        return torch.cuda.max_memory_allocated(device) - torch.cuda.memory_allocated(device)
    with LiveMemory(steps.existing()) as memory:
        step()
    return memory.peak(leave_out=gradients_of(steps.model))


def measure_drift(steps: Steps) -> List[float]:
    """Relative error of the reconstructed inputs of encoder and decoder, in a step of theta."""
    stacks = steps.model.stacks()
    for stack in stacks:
        stack.measures_drift = True
    steps.theta()
    for stack in stacks:
        stack.measures_drift = False
    steps.clear()
    return [float(stack.drift) for stack in stacks]


def gradients_of(model: nn.Module) -> List[Tensor]:
    """The gradients that the weights hold now."""
    return [weight.grad for weight in model.parameters() if weight.grad is not None]


def measure_time(steps: Steps, step: Callable[[], None]) -> float:
    """Seconds of one `step`, in the mean over the moments of a search."""
    seconds = []
    for _ in steps.moments():
        steps.clear()
        _synchronise(steps)
        start = time.perf_counter()
        step()
        _synchronise(steps)
        seconds.append(time.perf_counter() - start)
    return mean(seconds)


def _synchronise(steps: Steps) -> None:
    if steps.weights[0].is_cuda:
        torch.cuda.synchronize()


def is_out_of_memory(error: Exception) -> bool:
    """Whether `error` says that the device, or the machine, has too little memory."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate" in text)


def generation_speed(workload: Workload, model: FairseqEncoderDecoderModel) -> float:
    """Tokens per second of fairseq's beam search (beam 4), with hypotheses of full length."""
    seconds, tokens = time_beam_search(workload, model, beam=4)
    return tokens / seconds


def time_beam_search(
    workload: Workload, model: FairseqEncoderDecoderModel, beam: int
) -> Tuple[float, int]:
    """Seconds of fairseq's beam search over the workload's batch, and the tokens that it wrote."""
    # As fairseq-generate does, whose own hook would forbid training afterwards.
    aligning = [module for module in model.modules() if hasattr(module, "need_attn")]
    for module in aligning:
        module.need_attn = False
    generator = SequenceGenerator(
        [model.eval()],
        workload.task().target_dictionary,
        beam_size=beam,
        max_len_a=0,
        max_len_b=workload.length,
        min_len=workload.length,
    )
    batch = workload.batch()
    start = time.perf_counter()
    with torch.no_grad():
        hypotheses = generator.generate([model], batch)
    if workload.device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    model.train()
    for module in aligning:
        module.need_attn = True
    return seconds, sum(len(best["tokens"]) for best, *_ in hypotheses)
