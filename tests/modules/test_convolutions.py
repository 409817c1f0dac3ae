"""The convolutions over time are fairseq's, computed another way: also over many blocks of time."""

import pytest
import torch
import torch.nn.functional as F
from fairseq.modules.dynamic_convolution import DynamicConv1dTBC
from helpers import HEADS, context
from helpers import settings as operation_settings
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fairseq_revdarts.modules.convolutions import Convolution, DynamicConvolution
from fairseq_revdarts.search_space import CANDIDATES, CONV_WIDTHS, DYNAMIC_CONV_WIDTHS

CHANNELS = 8
few = settings(deadline=None, max_examples=25)
sides = st.sampled_from(sorted(CANDIDATES))
block = DynamicConvolution.BLOCK


def gradients_of(output, *tensors):
    """The output, and the gradients of a sum in which every number counts differently."""
    loss = (output * torch.arange(output.numel(), dtype=output.dtype).view_as(output).cos()).sum()
    return [output, *torch.autograd.grad(loss, tensors)]


def assert_all_close(ours, theirs):
    for one, other in zip(ours, theirs):
        torch.testing.assert_close(one, other)


@few
@given(sides, st.sampled_from(DYNAMIC_CONV_WIDTHS), st.integers(1, 3 * block), st.integers(1, 3))
@example("encoder", 15, block, 2)
@example("decoder", 15, block + 1, 2)
@example("encoder", 15, 2, 1)
def test_the_dynamic_convolution_is_fairseqs(side, width, length, batch):
    torch.manual_seed(length)
    ours = DynamicConvolution(width, operation_settings(side)).double()
    theirs = DynamicConv1dTBC(
        CHANNELS,
        kernel_size=width,
        padding_l=ours.past_and_future[0],
        num_heads=HEADS,
        weight_softmax=True,
    ).double()
    theirs.weight_linear.weight = ours.kernel_projection.weight
    h = torch.randn(length, batch, CHANNELS, dtype=torch.float64, requires_grad=True)
    gated = F.glu(ours.input_projection(h), dim=-1)
    # fairseq's unfolded form cuts kernels that are longer than the sentence before the softmax.
    expected = ours.output_projection(theirs(gated, unfold=False))
    weights = list(ours.parameters())
    assert_all_close(
        gradients_of(ours(h, context(side, length)), h, *weights),
        gradients_of(expected, h, *weights),
    )


@few
@given(sides, st.sampled_from(CONV_WIDTHS), st.integers(1, 30), st.integers(1, 3))
def test_the_convolution_is_fairseqs(side, width, length, batch):
    torch.manual_seed(length)
    ours = Convolution(width, operation_settings(side)).double()
    h = torch.randn(length, batch, CHANNELS, dtype=torch.float64, requires_grad=True)
    padded = F.pad(h, (0, 0, 0, 0, *ours.past_and_future))
    # conv_tbc takes (width, in, out)
    expected = torch.conv_tbc(padded, ours.weight.permute(1, 2, 0).contiguous(), ours.bias, 0)
    weights = list(ours.parameters())
    assert_all_close(
        gradients_of(ours(h, context(side, length)), h, *weights),
        gradients_of(expected, h, *weights),
    )


@pytest.mark.parametrize("operation", [Convolution, DynamicConvolution])
def test_weights_that_need_no_gradient_get_none(operation):
    """alpha's step asks for the input's gradient alone."""
    module = operation(3, operation_settings("encoder"))
    module.requires_grad_(False)
    h = torch.randn(5, 2, CHANNELS, requires_grad=True)
    module(h, context("encoder", 5)).sum().backward()
    assert h.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in module.parameters())
