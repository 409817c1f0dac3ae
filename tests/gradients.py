"""The gradients of a stack in double precision, for each way of backpropagation."""

import torch
from helpers import build_stack, context, generator, mixture_of_all

from fairseq_revdarts.tasks import bilevel_search  # noqa: F401

LENGTH, SOURCE_LENGTH, BATCH, CHANNELS = 6, 5, 3, 8
TOLERANCE = 1e-10
MIX = ("conv_3", "dynamic_conv_7", "self_attention", "ffn", "identity", "zero")


def make_inputs(side, splits, nodes, seed=0):
    """Stack input, probabilities, encoder output, masks; padding in one sentence each."""
    numbers = generator(seed)

    def normal(*shape):
        return torch.randn(shape, generator=numbers, dtype=torch.float64)

    padding = torch.zeros(BATCH, LENGTH, dtype=torch.bool)
    source_padding = torch.zeros(BATCH, SOURCE_LENGTH, dtype=torch.bool)
    padding[1, -2:] = source_padding[1, :2] = True
    x = normal(LENGTH, BATCH, splits * CHANNELS).requires_grad_()
    encoder_out = normal(SOURCE_LENGTH, BATCH, 12).requires_grad_()
    searched = [names for names in nodes if len(names) > 1]
    probabilities = None
    if searched:
        alpha = normal(1, len(searched), len(searched[0]))
        probabilities = alpha.softmax(-1).requires_grad_()
    where = context(
        side,
        LENGTH,
        padding if side == "encoder" else None,
        encoder_out,
        source_padding,
    )
    return x, probabilities, where, (~padding).t().unsqueeze(-1)


def loss_of(stack, inputs, seed=7):
    """A loss that weighs every real position's output differently."""
    x, probabilities, where, real = inputs
    torch.manual_seed(seed)
    mixture = None if probabilities is None else mixture_of_all(probabilities)
    output = stack(x, where, mixture)
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return (weights * output.square() * real).sum()


def sources(stack, inputs):
    """All tensors that the loss depends on, by name."""
    x, probabilities, where, _ = inputs
    tensors = {"x": x, **dict(stack.named_parameters())}
    if probabilities is not None:
        tensors["probabilities"] = probabilities
    if where.encoder_out is not None:
        tensors["encoder_out"] = where.encoder_out
    return tensors


def gradients(stack, inputs, names=None):
    tensors = sources(stack, inputs)
    names = [name for name in names or tensors if tensors[name].requires_grad]
    values = torch.autograd.grad(
        loss_of(stack, inputs), [tensors[name] for name in names], allow_unused=True
    )
    return dict(zip(names, values))


def assert_equal(expected, actual):
    """Equal to 1e-10 of their size; tiny ones (a bias that cancels) to that of a ten-thousandth."""
    assert expected.keys() == actual.keys()
    total = torch.stack([g.norm() for g in expected.values() if g is not None]).norm()
    assert total > 0
    for name, gradient in expected.items():
        if gradient is None:
            assert actual[name] is None, name
            continue
        error = (gradient - actual[name]).norm()
        assert error <= TOLERANCE * max(gradient.norm(), 1e-4 * total), name


def assert_modes_agree(side, nodes, depth, **more):
    torch.manual_seed(1)
    stack = build_stack(side, nodes, depth, **more)
    inputs = make_inputs(side, len(nodes), nodes)
    expected = gradients(stack, inputs)
    for mode in ("checkpoint", "reconstruct"):
        stack.backprop = mode
        assert_equal(expected, gradients(stack, inputs))
