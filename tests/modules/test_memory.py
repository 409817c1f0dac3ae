"""What the search holds in memory, in live bytes of tensors."""

import functools

import pytest
import torch
from helpers import activation_peak_of, build_stack, context

from fairseq_revdarts.modules.mixture import Mixture
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
    mixture = None
    if len(names) > 1:
        uniform = torch.full((1, SPLITS, len(names)), 1 / len(names), dtype=torch.float64)
        mixture = Mixture.of_all(uniform)
    weights = list(stack.parameters())

    def step():
        stack(x, context("encoder", LENGTH), mixture).sum().backward()

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


@functools.lru_cache(maxsize=None)
def autocast_peak(depth):
    """As `activation_peak`, in autocast and with so few tokens that copies of weights show."""
    torch.manual_seed(0)
    stack = build_stack("encoder", [("ffn",)] * SPLITS, depth, backprop="reconstruct").float()
    x = torch.randn(2, 1, SPLITS * CHANNELS, requires_grad=True)

    def step():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            stack(x, context("encoder", 2)).sum().backward()

    return activation_peak_of(step, list(stack.parameters()), x)


def test_autocast_keeps_no_copies_of_the_weights():
    """Its cache would hold a copy of every weight until the backward has ended."""
    assert autocast_peak(6) <= 1.05 * autocast_peak(2)
