"""What several tests need: small networks, their data, and the memory of a step."""

import gc
import itertools
from types import SimpleNamespace

import torch
from fairseq.data import Dictionary
from hypothesis import strategies as st

from fairseq_revdarts.genotype import Genotype
from fairseq_revdarts.models.evolved_transformer.model import (
    EvolvedTransformerConfig,
    EvolvedTransformerModel,
)
from fairseq_revdarts.models.revdarts_transformer.config import RevDartsTransformerConfig
from fairseq_revdarts.models.revdarts_transformer.model import RevDartsTransformerModel
from fairseq_revdarts.modules.context import Context, OperationSettings
from fairseq_revdarts.modules.mixture import Mixture, all_living
from fairseq_revdarts.modules.reversible_layer import ReversibleLayer
from fairseq_revdarts.modules.reversible_stack import ReversibleStack
from fairseq_revdarts.profiling.live_memory import LiveMemory
from fairseq_revdarts.search_space import CANDIDATES, CROSS_ATTENTION, POOLINGS

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
SMALL_EVOLVED = {"encoder_layers": 2, "decoder_layers": 2, "hidden_size": 32, "attention_heads": 2}
TYPICAL = Genotype(
    "max",
    (("ffn", "self_attention"), ("self_attention", "ffn")),
    (
        ("ffn", "cross_attention", "cross_attention"),
        ("self_attention", "cross_attention", "cross_attention"),
    ),
)


@st.composite
def genotypes(draw, layers=(1, 4), splits=(2, 5)):
    """Any genotype whose layers and splits are within these bounds."""
    layers, cells = draw(st.integers(*layers)), {}
    for side, fixed in (("encoder", ()), ("decoder", (CROSS_ATTENTION,))):
        searched = draw(st.integers(*splits)) - len(fixed)
        operation = st.sampled_from(CANDIDATES[side])
        cells[side] = tuple(
            (*(draw(operation) for _ in range(searched)), *fixed) for _ in range(layers)
        )
    return Genotype(pooling=draw(st.sampled_from(POOLINGS)), **cells)


def dictionary(types=30):
    symbols = Dictionary()
    for number in range(types - len(symbols)):
        symbols.add_symbol(f"symbol{number}")
    return symbols


def task(types=30):
    symbols = dictionary(types)
    return SimpleNamespace(source_dictionary=symbols, target_dictionary=symbols)


def build_model(types=30, **flags):
    """A model of the package, without data: SMALL unless `flags` say otherwise."""
    config = RevDartsTransformerConfig(max_source_positions=64, max_target_positions=64)
    for name, value in {**SMALL, **flags}.items():
        assert hasattr(config, name)
        setattr(config, name, value)
    return RevDartsTransformerModel.build_model(config, task(types))


def build_evolved(types=30, **flags):
    """The Evolved Transformer, without data: its authors' base unless `flags` say otherwise."""
    config = EvolvedTransformerConfig(max_source_positions=64, max_target_positions=64, **flags)
    return EvolvedTransformerModel.build_model(config, task(types))


def settings(side, channels=8, dropout=0.0, norm="pre", node_input="normalized"):
    return OperationSettings(
        channels=channels,
        encoder_channels=12,
        heads=HEADS,
        ffn_width=10,
        causal=side == "decoder",
        norm=norm,
        node_input=node_input,
        dropout=dropout,
        attention_dropout=dropout,
        activation_dropout=dropout,
    )


def build_stack(
    side,
    nodes,
    depth,
    pooling="max",
    node_input="normalized",
    backprop="store",
    cell_layers=1,
    dropout=0.2,
    norm="pre",
):
    """A stack in double precision, whose layers have the candidates `nodes` for each split."""
    layer = (nodes, pooling, settings(side, dropout=dropout, norm=norm, node_input=node_input))
    layers = [ReversibleLayer(number, cell_layers, *layer) for number in range(depth)]
    stack = ReversibleStack(layers, backprop).double()
    for parameter in stack.parameters():  # no zero biases: a ReLU at zero has no derivative
        parameter.data += 0.1 * torch.randn_like(parameter)
    return stack


def mixture_of_all(probabilities):
    """All candidates live; `probabilities` is (s, searched splits, candidates)."""
    return Mixture(probabilities, all_living(probabilities))


def generator(seed):
    """Random numbers for tensors on the device of the test."""
    return torch.Generator(torch.get_default_device()).manual_seed(seed)


def context(side, length, padding_mask=None, encoder_out=None, encoder_padding_mask=None, **more):
    if side == "encoder":
        return Context(padding_mask=padding_mask)
    return Context(padding_mask, encoder_out, encoder_padding_mask, **more)


def activation_peak_of(function, weights, *existing):
    """Peak of live bytes in `function()`, without `weights` and their gradients."""
    gc.collect()
    with LiveMemory([*weights, *gradients_in(weights), *existing]) as memory:
        function()
    return memory.peak(leave_out=gradients_in(weights))


def gradients_in(weights):
    return [weight.grad for weight in weights if weight.grad is not None]


@st.composite
def beam_orders(draw):
    """Reorderings as of beam search: two sentences of two beams each, one of which may end."""
    rows, orders = [(0, 1), (2, 3)], []
    for _ in range(draw(st.integers(1, 18))):
        if len(rows) == 2 and draw(st.integers(0, 7)) == 0:
            rows = [rows[draw(st.integers(0, 1))]]
        orders.append([draw(st.sampled_from(beams)) for beams in rows for _ in beams])
        rows = [(2 * number, 2 * number + 1) for number in range(len(rows))]
    return [torch.tensor(order) for order in orders]


def check_incremental_model(model, orders):
    """One token at a time, with beams swapped, dropped and doubled, gives the full forward's."""
    source = torch.randint(4, 30, (2, 5))
    source[0, :2] = PAD  # fairseq pads the source on the left
    source = source.repeat_interleave(2, dim=0)
    tokens = torch.randint(4, 30, (4, 1))
    state = {}
    with torch.no_grad():
        encoder_out = model.encoder(source)
        for order in orders:
            step, _ = model.decoder(tokens, encoder_out, incremental_state=state)
            full, _ = model.decoder(tokens, encoder_out)
            torch.testing.assert_close(step, full[:, -1:], rtol=1e-5, atol=1e-5)
            model.decoder.reorder_incremental_state_scripting(state, order)
            encoder_out = model.encoder.reorder_encoder_out(encoder_out, order)
            tokens = torch.cat([tokens[order], torch.randint(4, 30, (len(order), 1))], dim=1)


def check_padding_of_model(model):
    """Padding on either side, of source or target, never changes a sentence's logits."""
    source, target = torch.randint(4, 30, (1, 5)), torch.randint(4, 30, (1, 6))
    plain, _ = model(source, None, target)
    longer = torch.randint(4, 30, (1, 9))
    for left_source, left in itertools.product((False, True), repeat=2):
        padded_source, padded = pad(source, 9, left_source), pad(target, 9, left)
        logits, _ = model(torch.cat([padded_source, longer]), None, torch.cat([padded, longer]))
        torch.testing.assert_close(logits[:1, 3:] if left else logits[:1, :6], plain)


def pad(tokens, length, left):
    """`tokens` (1, T) padded to `length`."""
    pads = torch.full((1, length - tokens.size(1)), PAD)
    return torch.cat([pads, tokens] if left else [tokens, pads], dim=1)


def copy_weights(supernet, derived, genotype):
    """Give `derived` the weights of the operations that the genotype chose."""
    rest = {k: v for k, v in supernet.state_dict().items() if "architecture" not in k}
    derived.load_state_dict({**derived.state_dict(), **outside_stacks(rest)})
    for side in CANDIDATES:
        cell = getattr(genotype, side)
        pairs = zip(getattr(supernet, side).stack.layers, getattr(derived, side).stack.layers)
        for number, (mixed, chosen) in enumerate(pairs):
            for split, (from_node, to_node) in enumerate(zip(mixed.nodes, chosen.nodes)):
                name = cell[number % len(cell)][split]
                assert to_node.names == (name,)
                source = from_node.candidates[from_node.names.index(name)]
                to_node.candidates[0].load_state_dict(source.state_dict())


def outside_stacks(state):
    return {name: value for name, value in state.items() if ".stack." not in name}
