"""Every candidate: causality, padding, incremental decoding."""

from functools import partial

import pytest
import torch
from fairseq.modules import MultiheadAttention as FairseqAttention
from helpers import (
    TYPICAL,
    beam_orders,
    build_model,
    build_stack,
    check_incremental_model,
    check_padding_of_model,
    context,
    genotypes,
    settings,
)
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fairseq_revdarts.models.revdarts_transformer.config import NODE_INPUTS, OPERATION_NORMS
from fairseq_revdarts.modules import operations
from fairseq_revdarts.modules.context import Context
from fairseq_revdarts.modules.operations import build_operation
from fairseq_revdarts.registry import OPERATIONS
from fairseq_revdarts.search_space import CANDIDATES

CHANNELS, BATCH, SOURCE = 8, 3, 5
EVERY = [(side, name) for side in CANDIDATES for name in CANDIDATES[side]]


def build(side, name):
    torch.manual_seed(0)
    return build_operation(name, settings(side, CHANNELS)).double().eval()


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64)


def reorder(module, incremental_state, order):
    for part in module.modules():
        if hasattr(part, "reorder_incremental_state"):
            part.reorder_incremental_state(incremental_state, order)


def test_the_table_is_complete():
    assert set(OPERATIONS) == set(CANDIDATES["decoder"])
    assert len(CANDIDATES["encoder"]) == 13 and len(CANDIDATES["decoder"]) == 14


@pytest.mark.parametrize("name", CANDIDATES["decoder"])
def test_causality(name):
    """A later time step never changes an earlier output."""
    operation = build("decoder", name)
    length = 9
    h, encoder_out = normal(length, BATCH, CHANNELS), normal(SOURCE, BATCH, 12)
    where = context("decoder", length, encoder_out=encoder_out)
    before = operation(h, where)
    for changed in range(1, length):
        other = h.clone()
        other[changed] += 1 + normal(BATCH, CHANNELS).abs()
        after = operation(other, where)
        assert torch.equal(before[:changed], after[:changed])
        if name != "zero":
            assert not torch.allclose(before[changed], after[changed])


@pytest.mark.parametrize("name", CANDIDATES["encoder"])
def test_convolutions_and_attention_see_both_sides_in_the_encoder(name):
    operation = build("encoder", name)
    h = normal(5, 1, CHANNELS)
    changed = h.clone()
    changed[3] += 1 + normal(1, CHANNELS).abs()  # LayerNorm does not see a constant
    moved = (operation(h, Context()) - operation(changed, Context())).abs().sum(-1).flatten() > 0
    expected = {"zero": [], "identity": [3], "glu": [3], "ffn": [3]}.get(name)
    if expected is None:
        reach = {"conv_3": 1, "dynamic_conv_3": 1, "conv_5": 2}.get(name, 5)
        expected = list(range(max(0, 3 - reach), min(5, 4 + reach)))
    assert moved.nonzero().flatten().tolist() == expected


@pytest.mark.parametrize("norm", OPERATION_NORMS)
@pytest.mark.parametrize(("side", "name"), EVERY)
def test_every_candidate_reads_the_stream_normalized(side, name, norm):
    """However far the stream has grown; unless it is read "pooled" without a LayerNorm before."""
    h, encoder_out = normal(6, BATCH, CHANNELS), normal(SOURCE, BATCH, 12)
    grown, where = 1000 * h + 7, context(side, 6, encoder_out=encoder_out)
    for node_input in NODE_INPUTS:
        torch.manual_seed(0)
        how = settings(side, CHANNELS, norm=norm, node_input=node_input)
        operation = build_operation(name, how).double().eval()
        same = torch.allclose(operation(grown, where), operation(h, where), rtol=1e-3, atol=1e-4)
        has_its_own = name == "zero" or (norm == "pre" and name != "identity")
        assert same == (node_input == "normalized" or has_its_own)


@pytest.mark.parametrize("pad_side", ["left", "right"])
@pytest.mark.parametrize(("side", "name"), EVERY)
def test_padding_never_changes_a_real_position(side, name, pad_side):
    operation = build(side, name)
    length, pads = 6, 4
    h, encoder_out = normal(length, BATCH, CHANNELS), normal(SOURCE, BATCH, 12)
    filler, source_filler = 100 * normal(pads, BATCH, CHANNELS), 100 * normal(pads, BATCH, 12)
    left = pad_side == "left"
    padded = torch.cat([filler, h] if left else [h, filler])
    source = torch.cat([source_filler, encoder_out] if left else [encoder_out, source_filler])

    def mask(real):
        ones, zeros = torch.ones(BATCH, pads), torch.zeros(BATCH, real)
        return torch.cat([ones, zeros] if left else [zeros, ones], dim=1).bool()

    plain = operation(h, context(side, length, encoder_out=encoder_out))
    # A decoder is told of padding on the left only; see operations.Context.
    told = mask(length) if left or side == "encoder" else None
    where = context(side, length + pads, told, source, mask(SOURCE))
    result = operation(padded, where)
    torch.testing.assert_close(result[pads:] if left else result[:length], plain)


@hypothesis_settings(deadline=None, max_examples=30)
@given(
    length=st.integers(1, 9),
    causal=st.booleans(),
    padded=st.lists(st.integers(0, 8), min_size=BATCH, max_size=BATCH),
)
def test_attention_is_fairseqs(length, causal, padded):
    """Outputs and gradients, with padding on the right and without."""
    operation = build("decoder" if causal else "encoder", "self_attention").operation
    mask = torch.stack([torch.arange(length) >= max(1, length - pads) for pads in padded])
    mask = mask if mask.any() else None
    future = torch.ones(length, length, dtype=torch.bool).triu(1) if causal else None
    h = normal(length, BATCH, CHANNELS).requires_grad_()
    attend = partial(FairseqAttention.forward, operation.attention, h, h, h)
    expected, _ = attend(key_padding_mask=mask, attn_mask=future, need_weights=False)
    found = operation(h, Context(mask))
    torch.testing.assert_close(found, expected)
    sources = [h, *operation.parameters()]
    found, expected = (torch.autograd.grad(y.sin().sum(), sources) for y in (found, expected))
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other)
    # --retain-dropout-modules of fairseq knows it by this name.
    assert operation.attention.dropout_module.module_name == "MultiheadAttention"


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("side", CANDIDATES)
def test_a_call_builds_a_mask_once_and_none_without_padding(side, left, monkeypatch):
    masks, attend = [], operations.F.scaled_dot_product_attention

    def recorded(q, k, v, mask, dropout, causal):
        masks.append((mask, causal))
        return attend(q, k, v, mask, dropout, causal)

    monkeypatch.setattr(operations.F, "scaled_dot_product_attention", recorded)
    stack = build_stack(side, [("self_attention",), ("ffn",)], depth=3, backprop="reconstruct")
    padding = torch.zeros(2, 4, dtype=torch.bool)
    padding[0, :2] = left
    x = normal(4, 2, 16).requires_grad_()
    stack(x, Context(padding if left else None)).sum().backward()
    assert len(masks) == 2 * 3  # the forward's and the backward's
    assert len({id(mask) for mask, _ in masks}) == 1
    assert all((mask is not None) == left for mask, _ in masks)
    assert all(causal == (side == "decoder" and not left) for _, causal in masks)


def test_a_call_has_a_mask_with_and_one_without_causality():
    context = Context(torch.tensor([[True, False, False]]))
    h = torch.zeros(3, 1, 4)
    causal, not_causal = (context.self_attention_mask(h, causal) for causal in (True, False))
    assert causal.shape == (1, 1, 3, 3) and not_causal.shape == (1, 1, 1, 3)
    assert context.self_attention_mask(h, True) is causal


@pytest.mark.parametrize("name", ["dynamic_conv_3", "dynamic_conv_15"])
@pytest.mark.parametrize("side", CANDIDATES)
def test_long_sentences_take_the_same_dynamic_convolution(side, name):
    """fairseq's two ways to compute it, for up to 512 positions and for more, agree."""
    operation = build(side, name)
    h = normal(600, 1, CHANNELS)
    where = Context()
    torch.testing.assert_close(operation(h[:500], where)[:450], operation(h, where)[:450])


@pytest.mark.parametrize("name", CANDIDATES["decoder"])
@hypothesis_settings(deadline=None, max_examples=10)
@given(orders=beam_orders())
def test_incremental_decoding_with_reordered_beams(name, orders):
    """One step at a time, with beams swapped, dropped and doubled, equals the full forward."""
    operation = build("decoder", name)
    padding = torch.zeros(4, SOURCE, dtype=torch.bool)
    padding[:2, -2:] = True
    encoder_out = normal(SOURCE, 2, 12).repeat_interleave(2, dim=1)
    prefix, state = normal(0, 4, CHANNELS), {}
    for order in orders:
        prefix = torch.cat([prefix, normal(1, prefix.size(1), CHANNELS)])
        where = Context(
            encoder_out=encoder_out, encoder_padding_mask=padding, incremental_state=state
        )
        step = operation(prefix[-1:], where)
        full = operation(prefix, Context(None, encoder_out, padding))
        # fairseq computes the softmax in single precision
        torch.testing.assert_close(step, full[-1:], rtol=1e-5, atol=1e-5)
        reorder(operation, state, order)
        prefix, encoder_out = prefix.index_select(1, order), encoder_out.index_select(1, order)
        padding = padding.index_select(0, order)


@hypothesis_settings(deadline=None, max_examples=15)
@given(genotype=genotypes((2, 2), (2, 4)), orders=beam_orders())
def test_incremental_decoding_of_whole_genotypes(genotype, orders):
    model = build_model(genotype=genotype.to_json(), hidden_size=48).double().eval()
    check_incremental_model(model, orders)


@hypothesis_settings(deadline=None, max_examples=3)
@given(orders=beam_orders())
def test_incremental_decoding_of_a_supernet(orders):
    check_incremental_model(build_model().double().eval(), orders)


@pytest.mark.parametrize("genotype", [None, TYPICAL.to_json()])
def test_padding_never_changes_a_sentences_logits(genotype):
    check_padding_of_model(build_model(genotype=genotype).double().eval())
