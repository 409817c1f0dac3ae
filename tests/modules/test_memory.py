"""What the search holds in memory, in live bytes of tensors."""

import functools

import pytest
import torch
import torch.distributed as dist
from helpers import activation_peak_of, build_stack, context, gradients_in, mixture_of_all, settings
from torch import nn

from fairseq_revdarts.modules.context import Context
from fairseq_revdarts.modules.operations import build_operation
from fairseq_revdarts.search_space import CANDIDATES, CROSS_ATTENTION

pytestmark = pytest.mark.usefixtures("device")
LENGTH, BATCH, CHANNELS, SPLITS = 16, 32, 8, 2
MIX = CANDIDATES["encoder"]
SAME = nn.Identity()
#: Its buckets are the gradients, and so not counted.
C10D = functools.partial(nn.parallel.DistributedDataParallel, gradient_as_bucket_view=True)


@functools.lru_cache(maxsize=None)
def activation_peak(
    depth, names=MIX, backprop="reconstruct", length=LENGTH, micro_batch=1, wrapper=SAME
):
    """Peak of live bytes in a step of theta, without weights and their gradients."""
    torch.manual_seed(0)
    nodes = [names] * SPLITS
    stack = build_stack("encoder", nodes, depth, backprop=backprop)
    x = torch.randn(length, BATCH, SPLITS * CHANNELS, dtype=torch.float64, requires_grad=True)
    mixture = None
    if len(names) > 1:
        uniform = torch.full((1, SPLITS, len(names)), 1 / len(names), dtype=torch.float64)
        mixture = mixture_of_all(uniform)
    weights = list(stack.parameters())

    call = wrapper(stack)

    def step():
        call(x, context("encoder", length), mixture).sum().backward()

    for _ in range(micro_batch - 1):
        step()
    return activation_peak_of(step, weights, x, *gradients_in([x]))


def test_flat_in_depth():
    assert activation_peak(6) <= 1.05 * activation_peak(2)


@pytest.fixture
def process_group():
    """A group of one process, as c10d needs it."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("wrapper", [SAME, C10D])
def test_a_later_micro_batch_is_flat_in_depth_too(wrapper, process_group):
    """Gradients of weights are added to the earlier ones at once, not at the end."""
    names = ("ffn", "conv_11", "dynamic_conv_3")
    peak = functools.partial(activation_peak, names=names, length=1, wrapper=wrapper)
    # The third: c10d sorts its buckets anew in the second.
    shallow, deep = peak(6, micro_batch=3), peak(24, micro_batch=3)
    assert deep <= 1.05 * shallow


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
def autocast_peak(depth, device):
    """As `activation_peak`, in autocast and with so few tokens that copies of weights show."""
    torch.manual_seed(0)
    stack = build_stack("encoder", [("ffn",)] * SPLITS, depth, backprop="reconstruct").float()
    x = torch.randn(2, 1, SPLITS * CHANNELS, requires_grad=True)

    def step():
        with torch.autocast(device, dtype=torch.bfloat16):
            stack(x, context("encoder", 2)).sum().backward()

    return activation_peak_of(step, list(stack.parameters()), x)


def test_autocast_keeps_no_copies_of_the_weights(device):
    """Its cache would hold a copy of every weight until the backward has ended."""
    assert autocast_peak(6, device) <= 1.05 * autocast_peak(2, device)


def test_attention_weights_are_never_held_in_training():
    """They grow with the square of the length: one long sentence needs what eight short ones do."""
    operation = build_operation(CROSS_ATTENTION, settings("decoder", 8)).train()
    weights = list(operation.parameters())

    def peak(length, batch):
        h, encoder_out = torch.randn(length, batch, 8), torch.randn(length, batch, 12)
        where = Context(encoder_out=encoder_out.requires_grad_())
        run = functools.partial(operation, h.requires_grad_(), where)
        return activation_peak_of(lambda: run().sum().backward(), weights, h, encoder_out)

    assert peak(256, 1) <= 1.05 * peak(32, 8)
