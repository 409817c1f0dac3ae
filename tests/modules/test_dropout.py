"""Dropout: one mask a node, of the right share and mean, and the forward's own in the backward."""

import pytest
import torch
from helpers import build_stack, context, settings

from fairseq_revdarts.models.revdarts_transformer.config import OPERATION_NORMS
from fairseq_revdarts.modules.context import Context
from fairseq_revdarts.modules.mixed_operation import MixedOperation
from fairseq_revdarts.modules.mixture import Mixture
from fairseq_revdarts.modules.operations import Normalized

pytestmark = pytest.mark.usefixtures("device")
DROPOUT = 0.25
NODES = [("ffn", "glu", "conv_3"), ("ffn", "glu")]
DEPTH = 2


def test_a_mask_keeps_its_share_and_the_mean():
    node = MixedOperation(["ffn"], settings("encoder", dropout=DROPOUT)).train()
    mask = node._with_dropout_mask(torch.ones(200, 50, 8), Context()).dropout_mask
    kept = mask[mask != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - DROPOUT)))
    assert abs(len(kept) / mask.numel() - (1 - DROPOUT)) < 0.01


@pytest.mark.parametrize("norm", OPERATION_NORMS)
def test_a_node_has_one_mask_of_its_own_in_forward_and_backward(norm):
    torch.manual_seed(0)
    stack = build_stack("encoder", NODES, DEPTH, backprop="reconstruct", dropout=DROPOUT, norm=norm)
    masks = {}
    for number, node in enumerate(node for layer in stack.layers for node in layer.nodes):
        for module in (module for module in node.modules() if isinstance(module, Normalized)):
            module.register_forward_pre_hook(
                lambda _, inputs, number=number: masks.setdefault(number, []).append(
                    inputs[1].dropout_mask
                )
            )
    x = torch.randn(5, 2, 16, dtype=torch.float64, requires_grad=True)
    uniform = torch.full((1, 2, 3), 1 / 3, dtype=torch.float64)
    mixture = Mixture(uniform, (((0, 1, 2), (0, 1)),))
    stack(x, context("encoder", 5), mixture).sum().backward()
    assert len(masks) == DEPTH * len(NODES)
    for number, of_node in masks.items():
        assert len(of_node) == 2 * len(NODES[number % 2])  # the forward's and the backward's
        assert all(torch.equal(mask, of_node[0]) for mask in of_node)
    first = [of_node[0] for of_node in masks.values()]
    for i, one in enumerate(first):
        assert not any(torch.equal(one, other) for other in first[:i])


@pytest.mark.parametrize("modules", [None, ["MixedOperation"], ["FeedForward"]])
def test_retained_in_evaluation_masks_are_the_forwards_in_the_backward(modules):
    """After fairseq's --retain-dropout, for the modules that it names."""
    stacks = {}
    for backprop in ("reconstruct", "store"):
        torch.manual_seed(0)
        stacks[backprop] = build_stack("encoder", NODES, DEPTH, backprop=backprop, dropout=DROPOUT)
    x = torch.randn(5, 2, 16, dtype=torch.float64)
    uniform = torch.full((1, 2, 3), 1 / 3, dtype=torch.float64)
    mixture = Mixture(uniform, (((0, 1, 2), (0, 1)),))
    found = []
    for stack in stacks.values():
        plain = stack.eval()(x, context("encoder", 5), mixture)
        for name, module in stack.named_modules():
            if hasattr(module, "make_generation_fast_"):
                module.make_generation_fast_(
                    name=name, retain_dropout=True, retain_dropout_modules=modules
                )
        torch.manual_seed(1)
        output = stack(x.requires_grad_(), context("encoder", 5), mixture)
        assert not torch.allclose(output, plain)
        weights = list(stack.parameters())
        found.append((output, *torch.autograd.grad(output.square().sum(), [x, *weights])))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)
