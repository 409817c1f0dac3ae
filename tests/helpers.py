"""What several tests need: small networks, their data, and the memory of a step."""

import gc
from types import SimpleNamespace

import torch
from fairseq.data import Dictionary

from fairseq_revdarts.config import RevDartsTransformerConfig
from fairseq_revdarts.genotype import Genotype
from fairseq_revdarts.layers import ReversibleLayer, ReversibleStack
from fairseq_revdarts.memory import LiveMemory
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


def activation_peak_of(function, weights, *existing):
    """Peak of live bytes in `function()`, without the gradients that it leaves in `weights`."""
    gc.collect()
    with LiveMemory([*weights, *existing]) as memory:
        function()
    return memory.peak(leave_out=[weight.grad for weight in weights if weight.grad is not None])
