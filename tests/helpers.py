"""What several tests need: small networks, their data, and a meter of live memory."""

import gc
import itertools
from types import SimpleNamespace

import torch
from fairseq.data import Dictionary
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from fairseq_revdarts.config import RevDartsTransformerConfig
from fairseq_revdarts.genotype import Genotype
from fairseq_revdarts.layers import ReversibleLayer, ReversibleStack
from fairseq_revdarts.model import RevDartsTransformerModel
from fairseq_revdarts.operations import Context, OperationSettings

HEADS = 2
PAD = 1
SMALL = {
    "encoder_layers": 2,
    "decoder_layers": 2,
    "embed_dim": 8,
    "hidden_size": 24,
    "ffn_embed_dim": 16,
    "attention_heads": HEADS,
}
TYPICAL = Genotype(
    "max",
    (("ffn", "self_attention"), ("self_attention", "ffn")),
    (
        ("ffn", "cross_attention", "cross_attention"),
        ("self_attention", "cross_attention", "cross_attention"),
    ),
)


def dictionary(types=30):
    symbols = Dictionary()
    for number in range(types - len(symbols)):
        symbols.add_symbol(f"symbol{number}")
    return symbols


def build_model(types=30, **flags):
    """A model of the package, without data: SMALL unless `flags` say otherwise."""
    config = RevDartsTransformerConfig(max_source_positions=64, max_target_positions=64)
    for name, value in {**SMALL, **flags}.items():
        assert hasattr(config, name)
        setattr(config, name, value)
    symbols = dictionary(types)
    task = SimpleNamespace(source_dictionary=symbols, target_dictionary=symbols)
    return RevDartsTransformerModel.build_model(config, task)


def settings(side, channels=8, dropout=0.0):
    return OperationSettings(
        channels=channels,
        encoder_channels=12,
        heads=HEADS,
        ffn_width=10,
        causal=side == "decoder",
        dropout=dropout,
        attention_dropout=dropout,
        activation_dropout=dropout,
    )


def build_stack(side, nodes, depth, pooling="max", backprop="store", cell_layers=1, dropout=0.2):
    """A stack in double precision, whose layers have the candidates `nodes` for each split."""
    operations = settings(side, dropout=dropout)
    layers = [
        ReversibleLayer(number, cell_layers, nodes, pooling, operations) for number in range(depth)
    ]
    stack = ReversibleStack(layers, backprop).double()
    for parameter in stack.parameters():  # no zero biases: a ReLU at zero has no derivative
        parameter.data += 0.1 * torch.randn_like(parameter)
    return stack


def causal_mask(length):
    return torch.ones(length, length, dtype=torch.bool).triu(1)


def context(side, length, padding_mask=None, encoder_out=None, encoder_padding_mask=None, **more):
    if side == "encoder":
        return Context(padding_mask=padding_mask)
    return Context(padding_mask, causal_mask(length), encoder_out, encoder_padding_mask, **more)


class LiveMemory(TorchDispatchMode):
    """Bytes of tensors alive at any time within the context; what was alive before does not count.

    The peak can leave out storages that are alive at the end, such as the weights' gradients.
    """

    def __init__(self, *existing):
        super().__init__()
        self.known = {tensor.untyped_storage()._cdata for tensor in existing}
        self.clock = 0
        self.live, self.dead = {}, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.clock += 1
        self._bury()
        for tensor in tree_iter(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.known and storage._cdata not in self.live:
                    entry = (StorageWeakRef(storage), self.clock, storage.nbytes())
                    self.live[storage._cdata] = entry
        return out

    def _bury(self):
        for key, (reference, birth, size) in list(self.live.items()):
            if reference.expired():
                self.dead.append((birth, self.clock, size))
                del self.live[key]

    def peak(self, leave_out=()):
        """Most bytes alive at once, without the storages of the tensors in `leave_out`."""
        left_out = {tensor.untyped_storage()._cdata for tensor in leave_out}
        changes = [(birth, size) for birth, _, size in self.dead]
        changes += [(death, -size) for _, death, size in self.dead]
        lasting = [entry for key, entry in self.live.items() if key not in left_out]
        changes += [(birth, size) for _, birth, size in lasting]
        return max(itertools.accumulate(size for _, size in sorted(changes)))


def activation_peak_of(function, weights, *existing):
    """Peak of live bytes in `function()`, without the gradients that it leaves in `weights`."""
    gc.collect()
    with LiveMemory(*weights, *existing) as memory:
        function()
    return memory.peak(leave_out=[weight.grad for weight in weights if weight.grad is not None])
