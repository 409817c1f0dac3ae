"""Memory and time of the steps of a search or of a training, for `revdarts-profile`."""

import gc
import time
from dataclasses import dataclass
from statistics import mean
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, List, Protocol, Tuple

import torch
from fairseq.criterions import FairseqCriterion
from fairseq.data import Dictionary
from fairseq.models import FairseqEncoderDecoderModel
from fairseq.models.transformer import TransformerConfig, TransformerModelBase
from fairseq.sequence_generator import SequenceGenerator
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from ..criterions.reversible_search import ReversibleSearchCriterion
from ..models.revdarts_transformer.config import RevDartsTransformerConfig
from ..models.revdarts_transformer.model import RevDartsTransformerModel
from ..search.bilevel import only_alpha_requires_grad
from .live_memory import LiveMemory
from .transformer_size import HEADS, transformer_widths

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Workload:
    """The common ground of all networks in one profile.

    Args:
        tokens: target tokens per batch
        length: tokens per sentence
        vocabulary: types in the joint dictionary
        precision: "fp32", "bf16" or "fp16", of weights and activations
        device: "cpu" or "cuda"
        seed: of weights and data
    """

    tokens: int
    length: int
    vocabulary: int
    precision: str
    device: str
    seed: int

    @property
    def positions(self) -> int:
        """Longest sentence: in generation, begin and end of sentence are added."""
        return self.length + 2

    def task(self) -> SimpleNamespace:
        """A task with nothing but its dictionaries."""
        symbols = joint_dictionary(self.vocabulary)
        return SimpleNamespace(
            source_dictionary=symbols, target_dictionary=symbols, max_positions=self.positions
        )

    def batch(self) -> Dict[str, Any]:
        """A batch of random sentences of one length."""
        vocabularies = (self.vocabulary, self.vocabulary)
        return random_batch(self.tokens, self.length, vocabularies, self.device, self.seed)

    def criterion(self) -> ReversibleSearchCriterion:
        """The loss of the steps."""
        return ReversibleSearchCriterion(self.task(), sentence_avg=False, label_smoothing=0.1)

    def build(self, flags: Dict[str, Any]) -> RevDartsTransformerModel:
        """A network of this package, with `flags` of its configuration."""
        config = RevDartsTransformerConfig(
            share_all_embeddings=True,
            max_source_positions=self.positions,
            max_target_positions=self.positions,
            **flags,
        )
        torch.manual_seed(self.seed)
        model = RevDartsTransformerModel.build_model(config, self.task())
        model.searching = True
        return self._ready(model)

    def build_transformer(self, parameters: int, layers: int) -> FairseqEncoderDecoderModel:
        """fairseq's transformer of about as many parameters."""
        width, ffn_width = transformer_widths(parameters, self.vocabulary, layers)
        config = TransformerConfig(share_all_embeddings=True)
        config.max_source_positions = config.max_target_positions = self.positions
        for side in (config.encoder, config.decoder):
            side.layers, side.embed_dim, side.ffn_embed_dim = layers, width, ffn_width
            side.attention_heads, side.normalize_before = HEADS, True
        config.decoder.input_dim = config.decoder.output_dim = width
        torch.manual_seed(self.seed)
        return self._ready(TransformerModelBase.build_model(config, self.task()))

    def _ready(self, model: FairseqEncoderDecoderModel) -> FairseqEncoderDecoderModel:
        return model.to(device=self.device, dtype=DTYPES[self.precision]).train()


def joint_dictionary(types: int) -> Dictionary:
    """A dictionary of so many types, fairseq's special symbols included."""
    symbols = Dictionary()
    for number in range(types - len(symbols)):
        symbols.add_symbol(str(number))
    return symbols


def random_batch(
    tokens: int, length: int, vocabularies: Tuple[int, int], device: str, seed: int
) -> Dict[str, Any]:
    """A batch of random sentences of one length.

    Args:
        tokens: target tokens
        length: tokens per sentence, of source and target
        vocabularies: types of the source and of the target dictionary
        device: where the batch lies
        seed: of the tokens
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (max(1, tokens // length), length)
    source, target = (
        torch.randint(4, types, shape, generator=generator).to(device) for types in vocabularies
    )
    lengths = torch.full((shape[0],), length, device=device)
    inputs = {
        "src_tokens": source,
        "src_lengths": lengths,
        "prev_output_tokens": target.roll(1, 1),
    }
    return {"net_input": inputs, "target": target, "ntokens": target.numel()}


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
    """

    def __init__(
        self, workload: HasSteps, model: FairseqEncoderDecoderModel, all_gradients: bool = False
    ):
        self.model, self.batch, self.all_gradients = model, workload.batch(), all_gradients
        self.criterion = workload.criterion()
        architecture = getattr(model, "architecture", None)
        self.alphas: List[Tensor] = [] if architecture is None else architecture.alphas()
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]

    def theta(self) -> None:
        """Forward and backward of theta's loss; leaves gradients in the weights."""
        for alpha in self.alphas:
            alpha.requires_grad_(self.all_gradients)
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
    "reserved", on a GPU, is what its allocator takes in addition to the weights: more than lives.
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
    """Most bytes that a GPU's allocator has taken in `step`, gradients of the weights counted."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_reserved()
    step()
    steps.clear()
    return torch.cuda.max_memory_reserved() - before


def _activation_peak(steps: Steps, step: Callable[[], None]) -> int:
    """Most bytes that live in `step`, weights and their gradients not counted.

    On a GPU, what the allocator holds; elsewhere, live bytes of tensors.
    """
    device, before = steps.weights[0].device, gradients_of(steps.model)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)  # other networks too
        step()
        held += sum(gradient.nbytes for gradient in gradients_of(steps.model))
        held -= sum(gradient.nbytes for gradient in before)
        return torch.cuda.max_memory_allocated(device) - held
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
    return seconds, sum(len(best["tokens"]) for best, *_ in hypotheses)
