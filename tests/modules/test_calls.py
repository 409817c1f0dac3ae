"""What belongs to a call of a stack: random state, precision, modes, hooks, one backward."""

from collections import Counter
from functools import partial

import pytest
import torch
from gradients import BATCH, LENGTH, MIX, assert_equal, gradients, loss_of, make_inputs, sources
from helpers import build_model, build_stack, context

from fairseq_revdarts.search_space import CROSS_ATTENTION
from fairseq_revdarts.tasks import bilevel_search  # noqa: F401

pytestmark = pytest.mark.usefixtures("device")


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
def test_the_recomputation_finds_the_autocast_of_its_forward(mode, backward_within, device):
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
        with torch.autocast(device, dtype=torch.bfloat16):
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
    model.warns_of_no_search = False
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


def test_modes_and_generator_are_as_before_after_an_error_in_the_backward(device):
    stack = build_stack("encoder", [("ffn",), ("ffn",)], depth=1, backprop="reconstruct")
    loss = loss_of(stack, make_inputs("encoder", 2, [("ffn",), ("ffn",)]))
    stack.eval()

    def fail(*_):
        torch.rand(3, device=device)  # on a GPU the backward runs in a thread without a default
        raise RuntimeError("out of memory")

    stack.layers[0].nodes[1].candidates[0].register_forward_hook(fail)
    generators = torch.cuda if device == "cuda" else torch
    state = generators.get_rng_state()
    with pytest.raises(RuntimeError, match="out of memory"):
        loss.backward()
    assert torch.equal(generators.get_rng_state(), state)
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
    weight = stack.layers[0].nodes[1].candidates[0].input_norm.weight
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
