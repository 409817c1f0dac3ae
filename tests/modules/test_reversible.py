"""Reconstruction and checkpointing give plain autograd's gradients, in double precision."""

import pytest
import torch
from gradients import (
    MIX,
    assert_equal,
    assert_modes_agree,
    gradients,
    loss_of,
    make_inputs,
    sources,
)
from helpers import build_stack
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fairseq_revdarts.models.revdarts_transformer.config import NODE_INPUTS, OPERATION_NORMS
from fairseq_revdarts.search_space import CANDIDATES, CROSS_ATTENTION
from fairseq_revdarts.tasks import bilevel_search  # noqa: F401

pytestmark = pytest.mark.usefixtures("device")


@pytest.mark.parametrize("norm", OPERATION_NORMS)
@pytest.mark.parametrize("side", CANDIDATES)
@pytest.mark.parametrize("name", CANDIDATES["decoder"])
def test_every_candidate(side, name, norm):
    if name in CANDIDATES[side]:
        assert_modes_agree(side, [(name,), ("ffn",)], depth=3, norm=norm)


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("splits", [2, 3, 4, 5])
def test_splits_depth_and_pooling(splits, depth, pooling):
    for node_input in NODE_INPUTS:
        assert_modes_agree("encoder", [MIX] * splits, depth, pooling=pooling, node_input=node_input)


@pytest.mark.parametrize("splits", [2, 3, 4, 5])
def test_decoder_with_fixed_cross_attention(splits):
    mix = ("self_attention", CROSS_ATTENTION, "conv_3", "glu")
    assert_modes_agree("decoder", [mix] * (splits - 1) + [(CROSS_ATTENTION,)], depth=3)


@pytest.mark.parametrize("side", CANDIDATES)
def test_all_candidates_mixed(side):
    assert_modes_agree(side, [CANDIDATES[side]] * 2, depth=2)


@hypothesis_settings(deadline=None, max_examples=25)
@given(
    data=st.data(),
    side=st.sampled_from(sorted(CANDIDATES)),
    depth=st.integers(1, 4),
    pooling=st.sampled_from(["max", "avg"]),
    node_input=st.sampled_from(NODE_INPUTS),
    norm=st.sampled_from(OPERATION_NORMS),
)
def test_any_network(data, side, depth, pooling, node_input, norm):
    splits = data.draw(st.integers(2, 4))
    count = data.draw(st.integers(1, 3))
    names = st.lists(st.sampled_from(CANDIDATES[side]), min_size=count, max_size=count, unique=True)
    nodes = [tuple(data.draw(names)) for _ in range(splits)]
    if all(name == "zero" for node in nodes for name in node):
        return
    inputs = {"pooling": pooling, "node_input": node_input}
    assert_modes_agree(side, nodes, depth, norm=norm, **inputs)


@pytest.mark.parametrize("mode", ["checkpoint", "reconstruct"])
def test_several_forwards_before_one_backward(mode):
    """Each call keeps its own dropout masks."""
    torch.manual_seed(1)
    nodes = [MIX, MIX]
    stack = build_stack("encoder", nodes, depth=3)
    first, second = make_inputs("encoder", 2, nodes), make_inputs("encoder", 2, nodes, seed=1)
    results = {}
    for backprop in ("store", mode):
        stack.backprop = backprop
        stack.zero_grad()
        losses = [loss_of(stack, first, 3), loss_of(stack, second, 4), loss_of(stack, first, 5)]
        (losses[0] + losses[1] * losses[2].detach().sign() + losses[2]).backward()
        results[backprop] = {
            **{name: parameter.grad.clone() for name, parameter in stack.named_parameters()},
            "x": first[0].grad.clone(),
        }
        first[0].grad = second[0].grad = first[1].grad = second[1].grad = None
    assert_equal(results["store"], results[mode])


@pytest.mark.parametrize("mode", ["checkpoint", "reconstruct"])
@pytest.mark.parametrize("frozen", ["weights", "probabilities", "x", "encoder_out", "half"])
def test_frozen_tensors(mode, frozen):
    torch.manual_seed(1)
    nodes = [("conv_3", "ffn", CROSS_ATTENTION), (CROSS_ATTENTION,)]
    stack = build_stack("decoder", nodes, depth=2)
    inputs = make_inputs("decoder", 2, nodes)
    tensors = sources(stack, inputs)
    special = {"x", "probabilities", "encoder_out"}
    for number, (name, tensor) in enumerate(tensors.items()):
        weight = name not in special
        if name == frozen or (
            weight and (frozen == "weights" or (frozen == "half" and number % 2))
        ):
            tensor.requires_grad_(False)
    expected = gradients(stack, inputs)
    stack.backprop = mode
    assert_equal(expected, gradients(stack, inputs))


@pytest.mark.parametrize("mode", ["checkpoint", "reconstruct"])
def test_gradients_of_a_subset_of_inputs(mode):
    torch.manual_seed(1)
    nodes = [("conv_3", "ffn"), (CROSS_ATTENTION,)]
    stack = build_stack("decoder", nodes, depth=3)
    inputs = make_inputs("decoder", 2, nodes)
    weight = "layers.1.nodes.0.candidates.1.operation.input_projection.weight"
    for names in (["x"], ["probabilities"], ["encoder_out", weight], [weight]):
        stack.backprop = "store"
        expected = gradients(stack, inputs, names)
        stack.backprop = mode
        assert_equal(expected, gradients(stack, inputs, names))


def test_shared_cell_rows_accumulate():
    """Layers of several blocks add to the same rows of the probabilities' gradient."""
    torch.manual_seed(1)
    nodes = [("conv_3", "ffn")] * 2
    stack = build_stack("encoder", nodes, depth=4, cell_layers=2)
    x, _, where, real = make_inputs("encoder", 2, nodes)
    table = torch.rand(2, 2, 2, dtype=torch.float64).softmax(-1).requires_grad_()
    inputs = (x, table, where, real)
    expected = gradients(stack, inputs)
    assert expected["probabilities"].abs().sum(dim=(1, 2)).min() > 0
    stack.backprop = "reconstruct"
    assert_equal(expected, gradients(stack, inputs))
