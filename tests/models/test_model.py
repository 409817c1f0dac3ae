"""Supernet and derived network are one family: at a one-hot alpha they compute the same."""

import pytest
import torch
import torch.nn.functional as F
from helpers import PAD, build_model, copy_weights, genotypes
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_revdarts.genotype import Genotype
from fairseq_revdarts.models.revdarts_transformer.config import OPERATION_NORMS
from fairseq_revdarts.modules.context import Context, OperationSettings
from fairseq_revdarts.modules.operations import build_operation
from fairseq_revdarts.search_space import CANDIDATES, CROSS_ATTENTION

SIZES = {"encoder_layers": 4, "decoder_layers": 4, "hidden_size": 48}
GENOTYPES = genotypes(layers=(2, 2), splits=(2, 4))


def choose(supernet, genotype):
    """Make `supernet`'s alpha one-hot at `genotype`."""
    for side in CANDIDATES:
        alpha = getattr(supernet.architecture, side).data.fill_(-1e4)
        for row, layer in enumerate(getattr(genotype, side)):
            for split in range(alpha.size(1)):
                alpha[row, split, CANDIDATES[side].index(layer[split])] = 1e4


@settings(deadline=None, max_examples=10)
@given(genotype=GENOTYPES)
def test_derived_network_is_the_supernet_at_a_one_hot_alpha(genotype):
    splits = {f"{side}_splits": len(getattr(genotype, side)[0]) for side in CANDIDATES}
    supernet = build_model(pooling=genotype.pooling, **splits, **SIZES).double().eval()
    derived = build_model(genotype=genotype.to_json(), **SIZES).double().eval()
    choose(supernet, genotype)
    assert supernet.architecture.genotype() == genotype
    copy_weights(supernet, derived, genotype)
    source, target = torch.randint(4, 30, (3, 5)), torch.randint(4, 30, (3, 6))
    source[0, :2] = target[1, -2:] = PAD
    expected, _ = supernet(source, None, target)
    actual, _ = derived(source, None, target)
    real = target.ne(PAD)
    torch.testing.assert_close(actual[real], expected[real])


def gradients(model, source, previous, target):
    """Of the summed log-likelihood of the real tokens, with dropout."""
    torch.manual_seed(3)
    scores = model.get_normalized_probs(model(source, None, previous), log_probs=True)
    loss = scores.gather(-1, target.unsqueeze(-1)).squeeze(-1)[target.ne(PAD)].sum()
    named = dict(model.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values()), allow_unused=True)))


@settings(deadline=None, max_examples=15)
@given(genotype=GENOTYPES, shared=st.booleans())
def test_a_derived_network_reconstructs_plain_gradients(genotype, shared):
    """Encoder and decoder together, in double precision, with padding and dropout."""
    flags = {"share_all_embeddings": shared, **SIZES}
    flags.update(dropout=0.2, attention_dropout=0.1, activation_dropout=0.1)
    model = build_model(genotype=genotype.to_json(), **flags).double()
    for parameter in model.parameters():  # no zero biases: a ReLU at zero has no derivative
        parameter.data += 0.1 * torch.randn_like(parameter)
    source, previous, target = (torch.randint(4, 30, (3, length)) for length in (5, 6, 6))
    source[0, :2] = previous[1, -2:] = target[1, -2:] = PAD
    expected = gradients(model, source, previous, target)
    total = torch.stack([g.norm() for g in expected.values() if g is not None]).norm()
    for mode in ("checkpoint", "reconstruct"):
        for stack in model.stacks():
            stack.backprop = mode
        actual = gradients(model, source, previous, target)
        for name, gradient in expected.items():
            if gradient is None:
                assert actual[name] is None, name
            else:
                assert (gradient - actual[name]).norm() <= 1e-10 * total, name


def test_default_backpropagation():
    genotype = Genotype("max", (("ffn", "glu"),), (("ffn", CROSS_ATTENTION),))
    for model, mode in (
        (build_model(), "reconstruct"),
        (build_model(genotype=genotype.to_json()), "store"),
        (build_model(genotype=genotype.to_json(), backprop="reconstruct"), "reconstruct"),
    ):
        assert [stack.backprop for stack in model.stacks()] == [mode, mode]


def test_a_checkpoint_from_before_the_drift_was_kept_is_restored():
    older, model = build_model().state_dict(), build_model()
    del older["architecture.drift"]
    model.architecture.drift.fill_(0.5)
    model.load_state_dict(older)
    assert model.architecture.last_drift() is None


@pytest.mark.parametrize("norm, other", [("pre", "post"), ("post", "pre")])
def test_weights_decide_where_nodes_normalise(norm, other, caplog):
    """Older checkpoints are post-norm, whatever the default is now."""
    trained, model = build_model(operation_norm=norm), build_model(operation_norm=other)
    model.load_state_dict(trained.state_dict())
    assert f"--operation-norm {other}: the weights in the checkpoint were" in caplog.text
    assert list(model.state_dict()) == list(trained.state_dict())
    tokens = torch.randint(4, 30, (3, 5))
    scores = [network.eval()(tokens, None, tokens)[0] for network in (model, trained)]
    assert torch.equal(*scores)


@pytest.mark.parametrize("norm", OPERATION_NORMS)
def test_what_a_candidate_adds_to_the_stream(norm):
    """Post-norm adds a vector of one length, mostly H; pre-norm what the operation computes."""
    torch.manual_seed(1)
    sizes = OperationSettings(16, 32, heads=4, ffn_width=32, causal=False, norm=norm)
    candidate = build_operation("ffn", sizes)
    candidate.operation.output_projection.weight.data.zero_()
    h = torch.randn(5, 2, 16)
    added = candidate(h, Context())
    expected = {"pre": torch.zeros_like(h), "post": F.layer_norm(h, (16,))}
    torch.testing.assert_close(added, expected[norm])


@pytest.mark.parametrize(
    "norm, node_input, low, high",
    [
        ("pre", "normalized", 0.05, 0.1),
        ("pre", "pooled", 0.05, 0.1),
        ("post", "normalized", 0.05, 0.1),
        ("post", "pooled", 0.4, 1.0),
    ],
)
def test_a_deep_stack_begins_with_open_attention(norm, node_input, low, high):
    """Where nodes read the growing stream as it is, a position takes in a single one of twenty."""
    torch.manual_seed(1)
    cell = (("ffn", "self_attention"),)
    genotype = Genotype("max", cell, (("ffn", CROSS_ATTENTION),)).to_json()
    flags = {"operation_norm": norm, "node_input": node_input}
    model = build_model(genotype=genotype, encoder_layers=12, hidden_size=96, **flags).eval()
    operation = model.encoder.stack.layers[-1].nodes[1].candidates[0].operation
    read = []
    operation.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    model.encoder(torch.arange(4, 24).repeat(2, 1))
    _, weights = operation.attention(*read * 3, need_weights=True)
    assert low < weights.max(dim=-1).values.mean() < high


def test_padding_enters_the_stream_as_zero_whatever_its_embedding():
    """Shared with the output projection, padding's embedding is trained like any other."""
    model = build_model(share_all_embeddings=True).eval()
    with torch.no_grad():
        model.encoder.input.embed_tokens.weight[PAD] = 5.0
    tokens = torch.randint(4, 30, (2, 5))
    tokens[0, :2] = PAD
    for side in (model.encoder, model.decoder):
        empty = side.input(tokens).eq(0).all(dim=-1).t()
        assert torch.equal(empty, tokens.eq(PAD))
