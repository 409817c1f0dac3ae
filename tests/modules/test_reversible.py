"""Reconstruction and checkpointing give plain autograd's gradients, in double precision."""

from collections import Counter
from functools import partial

import pytest
import torch
from helpers import build_model, build_stack, context
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fairseq_revdarts.models.revdarts_transformer.config import NODE_INPUTS
from fairseq_revdarts.modules.mixture import Mixture
from fairseq_revdarts.search_space import CANDIDATES, CROSS_ATTENTION
from fairseq_revdarts.tasks import bilevel_search  # noqa: F401

LENGTH, SOURCE_LENGTH, BATCH, CHANNELS = 6, 5, 3, 8
TOLERANCE = 1e-10
MIX = ("conv_3", "dynamic_conv_7", "self_attention", "ffn", "identity", "zero")


def make_inputs(side, splits, nodes, seed=0):
    """Stack input, probabilities, encoder output, masks; padding in one sentence each."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

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
    mixture = None if probabilities is None else Mixture.of_all(probabilities)
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


@pytest.mark.parametrize("side", CANDIDATES)
@pytest.mark.parametrize("name", CANDIDATES["decoder"])
def test_every_candidate(side, name):
    if name in CANDIDATES[side]:
        assert_modes_agree(side, [(name,), ("ffn",)], depth=3)


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
)
def test_any_network(data, side, depth, pooling, node_input):
    splits = data.draw(st.integers(2, 4))
    count = data.draw(st.integers(1, 3))
    names = st.lists(st.sampled_from(CANDIDATES[side]), min_size=count, max_size=count, unique=True)
    nodes = [tuple(data.draw(names)) for _ in range(splits)]
    if all(name == "zero" for node in nodes for name in node):
        return
    assert_modes_agree(side, nodes, depth, pooling=pooling, node_input=node_input)


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


def test_global_random_stream_is_the_same_in_all_modes():
    stack = build_stack("encoder", [MIX, MIX], depth=2)
    inputs = make_inputs("encoder", 2, [MIX, MIX])
    draws = set()
    for mode in ("store", "checkpoint", "reconstruct"):
        stack.backprop = mode
        loss_of(stack, inputs).backward()
        draws.add(torch.rand(()).item())
    assert len(draws) == 1


def test_dropout_differs_between_layers_nodes_and_calls():
    stack = build_stack("encoder", [("identity",), ("ffn",)], depth=1, dropout=0.5)
    inputs = make_inputs("encoder", 2, [("identity",), ("ffn",)])
    assert loss_of(stack, inputs, seed=1) != loss_of(stack, inputs, seed=2)


def test_weights_changed_before_the_backward_are_an_error():
    stack = build_stack("encoder", [("ffn",), ("ffn",)], depth=1, backprop="reconstruct")
    loss = loss_of(stack, make_inputs("encoder", 2, [("ffn",), ("ffn",)]))
    with torch.no_grad():
        next(stack.parameters()).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("backward_within", [False, True])
@pytest.mark.parametrize("mode", ["checkpoint", "reconstruct"])
def test_the_recomputation_finds_the_autocast_of_its_forward(mode, backward_within):
    """The backward may run outside autocast, or within it.

    Within it autocast's cache still holds the weights that the forward has cast, without a graph:
    a recomputation that took these would have no gradients of the weights.
    """
    torch.manual_seed(1)
    nodes = [("ffn", "self_attention")] * 2
    stack = build_stack("encoder", nodes, depth=2, dropout=0.0).float()
    x, probabilities, where, real = make_inputs("encoder", 2, nodes)
    inputs = (x.detach().float().requires_grad_(), probabilities.detach().float(), where, real)
    seen = []
    for module in stack.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda *arguments: seen.append(arguments[2].dtype))
    results = {}
    for backprop in ("store", mode):
        stack.backprop = backprop
        seen.clear()
        names = [name for name, _ in stack.named_parameters()]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(stack, inputs)
            if backward_within:
                values = torch.autograd.grad(loss, list(stack.parameters()))
        if not backward_within:
            values = torch.autograd.grad(loss, list(stack.parameters()))
        assert set(seen) == {torch.bfloat16}
        results[backprop] = dict(zip(names, values))
    total = torch.stack([g.norm() for g in results["store"].values()]).norm()
    for name, gradient in results["store"].items():
        # A reconstruction in bfloat16 is not exact: its inputs differ by fp32 rounding.
        assert (gradient - results[mode][name]).norm() <= 0.03 * total, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_stream_is_single_precision_whatever_the_operations_compute_in(dtype):
    model = build_model(dropout=0.0).to(dtype)
    model.searching = True
    stack = model.encoder.stack
    stack.measures_drift = True
    x = torch.randn(LENGTH, BATCH, 24, dtype=dtype, requires_grad=True)
    output = stack(x, context("encoder", LENGTH), model.architecture.mixture("encoder"))
    assert output.dtype == dtype
    output.float().square().sum().backward()
    assert 0 < stack.drift < 0.01


def test_operations_are_evaluated_exactly_twice():
    stack = build_stack("encoder", [MIX, MIX], depth=3, backprop="reconstruct")
    evaluations = Counter()
    for layer in stack.layers:
        for node in layer.nodes:
            for candidate in node.candidates:
                candidate.register_forward_hook(lambda module, *_: evaluations.update([module]))
    loss = loss_of(stack, make_inputs("encoder", 2, [MIX, MIX]))
    assert set(evaluations.values()) == {1}
    loss.backward()
    assert set(evaluations.values()) == {2}
    assert len(evaluations) == 3 * 2 * len(MIX)


def test_drift_is_measured_against_the_true_input():
    stack = build_stack("encoder", [MIX, MIX], depth=3, backprop="reconstruct")
    inputs = make_inputs("encoder", 2, [MIX, MIX])
    loss_of(stack, inputs).backward()
    assert stack.drift is None
    stack.measures_drift = True
    loss_of(stack, inputs).backward()
    assert 0 < stack.drift < 1e-12
    stack.float()
    single = inputs[0].detach().float().requires_grad_()
    loss_of(stack, (single, inputs[1].detach().float(), *inputs[2:])).backward()
    assert 1e-9 < stack.drift < 1e-4


def test_weights_that_were_assigned_and_saved_tensors_that_were_moved():
    torch.manual_seed(0)
    stack = build_stack("encoder", [MIX] * 2, 2, backprop="reconstruct")
    inputs = make_inputs("encoder", 2, [MIX] * 2)
    expected = gradients(stack, inputs)
    state = {name: value.clone() for name, value in stack.state_dict().items()}
    stack.load_state_dict(state, assign=True)
    with torch.autograd.graph.save_on_cpu():
        assert_equal(expected, gradients(stack, inputs))


def turn_to_evaluation(stack, what):
    """As a sampling criterion does, which generates between the forward and the backward."""
    residual = stack.layers[0].nodes[0].candidates[0]
    {
        "stack": stack,
        "node": stack.layers[1].nodes[1],
        "candidate": residual,
        "dropout": residual.operation.dropout,
    }[what].eval()


@pytest.mark.parametrize("mode", ["checkpoint", "reconstruct"])
@pytest.mark.parametrize("what", ["stack", "node", "candidate", "dropout"])
def test_training_modes_are_those_of_the_forward(mode, what):
    """A forward in training, a backward in evaluation; then both in evaluation, or the reverse."""
    torch.manual_seed(1)
    nodes = [("ffn", "self_attention", "dynamic_conv_3")] * 2
    stack = build_stack("encoder", nodes, depth=2)
    inputs = make_inputs("encoder", 2, nodes)
    tensors = sources(stack, inputs)
    results = {}
    for backprop in ("store", mode):
        stack.backprop = backprop
        stack.train()
        training = loss_of(stack, inputs)
        turn_to_evaluation(stack, what)
        before = [module.training for module in stack.modules()]
        mixed = loss_of(stack, inputs)
        results[backprop] = [torch.autograd.grad(training, list(tensors.values()))]
        assert [module.training for module in stack.modules()] == before
        stack.train()
        results[backprop].append(torch.autograd.grad(mixed, list(tensors.values())))
    assert not torch.equal(results["store"][0][0], results["store"][1][0])
    for expected, found in zip(results["store"], results[mode]):
        assert_equal(dict(zip(tensors, expected)), dict(zip(tensors, found)))


def test_modes_and_generator_are_as_before_after_an_error_in_the_backward():
    stack = build_stack("encoder", [("ffn",), ("ffn",)], depth=1, backprop="reconstruct")
    loss = loss_of(stack, make_inputs("encoder", 2, [("ffn",), ("ffn",)]))
    stack.eval()

    def fail(*_):
        torch.rand(3)
        raise RuntimeError("out of memory")

    stack.layers[0].nodes[1].candidates[0].register_forward_hook(fail)
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="out of memory"):
        loss.backward()
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in stack.modules())


def test_a_second_backward_is_an_error_unless_the_graph_is_retained():
    nodes = [MIX, MIX]
    stack = build_stack("encoder", nodes, depth=2, backprop="reconstruct")
    inputs = make_inputs("encoder", 2, nodes)
    tensors = list(sources(stack, inputs).values())
    loss = loss_of(stack, inputs)
    first = torch.autograd.grad(loss, tensors, retain_graph=True)
    second = torch.autograd.grad(loss, tensors)
    assert all(torch.equal(one, other) for one, other in zip(first, second))
    with pytest.raises(RuntimeError, match="a second time"):
        torch.autograd.grad(loss, tensors)


def test_hooks_on_gradients_run_once_with_the_whole_gradient():
    """Those of weights, which two calls share, and of the encoder's output."""
    torch.manual_seed(1)
    nodes = [("conv_3", "ffn"), (CROSS_ATTENTION,)]
    stack = build_stack("decoder", nodes, depth=2)
    inputs = make_inputs("decoder", 2, nodes)
    tensors = {
        name: t for name, t in sources(stack, inputs).items() if "0.candidates.1" not in name
    }
    runs = Counter()

    def doubled(gradient, name):
        runs.update([name])
        return 2 * gradient

    for name, tensor in tensors.items():
        tensor.register_hook(partial(doubled, name=name))
    accumulated = Counter()
    weight = stack.layers[0].nodes[1].candidates[0].layer_norm.weight
    weight.register_post_accumulate_grad_hook(lambda _: accumulated.update(["weight"]))
    results = {}
    for mode in ("store", "reconstruct"):
        stack.backprop = mode
        for tensor in sources(stack, inputs).values():
            tensor.grad = None
        runs.clear(), accumulated.clear()
        (loss_of(stack, inputs) + loss_of(stack, inputs, seed=8)).backward()
        assert runs == dict.fromkeys(tensors, 1) and accumulated == {"weight": 1}
        results[mode] = {name: tensor.grad for name, tensor in sources(stack, inputs).items()}
    assert_equal(results["store"], results["reconstruct"])
