"""What the search holds in memory, in live bytes of tensors."""

import functools

import pytest
import torch
from helpers import activation_peak_of, build_stack, context

from fairseq_revdarts.search_space import CANDIDATES

LENGTH, BATCH, CHANNELS, SPLITS = 16, 32, 8, 2
MIX = CANDIDATES["encoder"]


@functools.lru_cache(maxsize=None)
def activation_peak(depth, names=MIX, backprop="reconstruct"):
    """Peak of live bytes in a step of theta, without the weights' gradients."""
    torch.manual_seed(0)
    nodes = [names] * SPLITS
    stack = build_stack("encoder", nodes, depth, backprop=backprop)
    x = torch.randn(LENGTH, BATCH, SPLITS * CHANNELS, dtype=torch.float64, requires_grad=True)
    table = None
    if len(names) > 1:
        table = torch.full((1, SPLITS, len(names)), 1 / len(names), dtype=torch.float64)
    weights = list(stack.parameters())

    def step():
        stack(x, context("encoder", LENGTH), table).sum().backward()

    return activation_peak_of(step, weights, x)


def test_flat_in_depth():
    assert activation_peak(6) <= 1.05 * activation_peak(2)


def test_plain_backpropagation_and_checkpointing_grow_with_depth():
    """The meter sees what it has to see."""
    assert activation_peak(6, backprop="store") > 2.5 * activation_peak(2, backprop="store")
    growth = activation_peak(6, backprop="checkpoint") - activation_peak(2, backprop="checkpoint")
    layer_input = LENGTH * BATCH * SPLITS * CHANNELS * 8
    assert growth >= 4 * layer_input


@pytest.mark.parametrize("name", ["self_attention", "dynamic_conv_15"])
def test_flat_in_the_number_of_candidates(name):
    """A node's peak is its largest candidate's, however many there are."""
    few = activation_peak(2, (name, "identity"))
    assert activation_peak(2, (name, "identity", "glu", "ffn", "conv_3", "conv_5")) <= 1.25 * few


def test_a_fraction_of_plain_backpropagation():
    assert activation_peak(6) * 10 < activation_peak(6, backprop="store")
