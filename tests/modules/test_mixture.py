"""Living candidates: exact gradients for every living set; idle candidates cost nothing."""

from collections import Counter

import pytest
import torch
from helpers import PAD, build_model, context
from helpers import settings as node_settings
from hypothesis import given, settings
from hypothesis import strategies as st
from losses import TYPES, batch, criterion

from fairseq_revdarts.modules.mixed_operation import MixedOperation
from fairseq_revdarts.modules.mixture import NodeMixture, all_living, indices_of, softmax_over
from fairseq_revdarts.search.bilevel import only_alpha_requires_grad
from fairseq_revdarts.search_space import CANDIDATES

pytestmark = pytest.mark.usefixtures("device")
few = settings(deadline=None, max_examples=8)


def supernet(seed=0, **flags):
    torch.manual_seed(seed)
    model = build_model(TYPES, dropout=0.2, attention_dropout=0.1, activation_dropout=0.1, **flags)
    model.warns_of_no_search = False
    model.architecture.requires_grad_(True)
    return model.double().train()


@st.composite
def living_sets(draw, model):
    """For each side, any living set of the supernet's nodes; they differ by node."""
    return {
        side: tuple(
            tuple(
                tuple(
                    sorted(
                        draw(st.sets(st.integers(0, alpha.size(-1) - 1), min_size=1, max_size=4))
                    )
                )
                for _ in range(alpha.size(1))
            )
            for _ in range(alpha.size(0))
        )
        for side, alpha in zip(CANDIDATES, model.architecture.alphas())
    }


def set_backprop(model, mode):
    for stack in model.stacks():
        stack.backprop = mode


def gradients(model, mode, living):
    """Of every weight and of alpha, by name; the backward runs outside the restriction."""
    set_backprop(model, mode)
    torch.manual_seed(3)
    with model.architecture.restricted_to(living):
        loss = criterion(model, batch())[0]
    model.zero_grad()
    loss.backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


SUPERNET = supernet()


@pytest.fixture(scope="module", autouse=True)
def on_the_device(device):
    """The supernet that the tests share is made before a device is known."""
    SUPERNET.to(device)


@few
@given(living_sets(SUPERNET))
def test_gradients_are_those_of_plain_autograd_for_every_living_set(living):
    expected = gradients(SUPERNET, "store", living)
    for mode in ("checkpoint", "reconstruct"):
        found = gradients(SUPERNET, mode, living)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(
                found[name], gradient, rtol=1e-6 if "architecture" in name else 1e-9, atol=1e-9
            )


@few
@given(living_sets(SUPERNET))
def test_idle_candidates_are_never_evaluated_and_have_no_gradients(living):
    evaluated, handles = Counter(), []
    for side, stack in zip(CANDIDATES, SUPERNET.stacks()):
        for number, layer in enumerate(stack.layers):
            for k, node in enumerate(layer.nodes):
                for index, candidate in enumerate(node.candidates):
                    place = (side, number, k, index)
                    hook = candidate.register_forward_hook(
                        lambda *_, place=place: evaluated.update([place])
                    )
                    handles.append(hook)
    found = gradients(SUPERNET, "reconstruct", living)
    for handle in handles:
        handle.remove()
    for side, stack in zip(CANDIDATES, SUPERNET.stacks()):
        for number, layer in enumerate(stack.layers):
            for k, node in enumerate(layer.nodes):
                nodes = living[side][layer.cell_row]
                alive = nodes[k] if k < len(nodes) else (0,)
                for index, candidate in enumerate(node.candidates):
                    assert evaluated[side, number, k, index] == (2 if index in alive else 0)
                    prefix = f"{side}.stack.layers.{number}.nodes.{k}.candidates.{index}."
                    weights = [name for name, _ in candidate.named_parameters()]
                    assert {prefix + name in found for name in weights} <= {index in alive}


@few
@given(living_sets(SUPERNET))
def test_probabilities_are_the_softmax_over_the_living(living):
    for side, alpha in zip(CANDIDATES, SUPERNET.architecture.alphas()):
        probabilities = softmax_over(alpha.detach(), living[side])
        for i, layer in enumerate(living[side]):
            for k, indices in enumerate(layer):
                chosen = torch.zeros(alpha.size(-1), dtype=torch.bool)
                chosen[list(indices)] = True
                expected = alpha[i, k][chosen].softmax(-1).detach()
                torch.testing.assert_close(probabilities[i, k][chosen], expected)
                assert (probabilities[i, k][~chosen] == 0).all()


def test_all_candidates_live_at_first_and_cost_no_other_bits():
    architecture = supernet().architecture
    for side, alpha in zip(CANDIDATES, architecture.alphas()):
        assert architecture.living(side) == all_living(alpha)
        assert torch.equal(architecture.mixture(side).probabilities, alpha.softmax(-1))


def test_eliminated_candidates_stay_eliminated_through_a_checkpoint():
    model, other = supernet(), supernet(seed=1)
    model.architecture.eliminate("encoder", 0, 1, 3)
    assert other.architecture.living("encoder")[0][1] == tuple(range(13))
    other.load_state_dict(model.state_dict())
    for architecture in (model.architecture, other.architecture):
        assert 3 not in architecture.living("encoder")[0][1]
        assert architecture.probabilities("encoder")[0, 1, 3] == 0
        assert architecture.node_probabilities()["encoder.1.2"]["conv_11"] == 0


def test_the_genotype_has_no_eliminated_operation():
    architecture = supernet().architecture
    with torch.no_grad():
        architecture.encoder[0, 0, 3] = 5.0
    assert architecture.genotype().encoder[0][0] == "conv_11"
    architecture.eliminate("encoder", 0, 0, 3)
    assert architecture.genotype().encoder[0][0] != "conv_11"


def test_the_last_candidate_cannot_be_eliminated():
    architecture = supernet().architecture
    for index in range(12):
        architecture.eliminate("encoder", 0, 0, index)
    with pytest.raises(ValueError, match="last candidate"):
        architecture.eliminate("encoder", 0, 0, 12)
    assert architecture.living("encoder")[0][0] == (12,)
    with pytest.raises(ValueError, match="no living candidate"):
        indices_of(torch.zeros(1, 1, 3, dtype=torch.bool))


def test_a_checkpoint_from_before_elimination_has_all_candidates():
    model = supernet()
    state = {n: t for n, t in model.state_dict().items() if not n.endswith("_living")}
    model.architecture.eliminate("decoder", 1, 0, 2)
    model.upgrade_state_dict(state)
    model.load_state_dict(state)
    assert model.architecture.living("decoder")[1][0] == tuple(range(14))


@pytest.mark.parametrize("evaluates_between", [False, True])
def test_the_whole_supernet_in_both_levels(evaluates_between):
    """All candidates, all dropouts, padding: gradients of every weight and of alpha."""
    model = supernet(share_all_embeddings=True)
    for parameter in model.parameters():  # no zero biases: a ReLU at zero has no derivative
        parameter.data = parameter.data.double()  # alpha too
        parameter.data += 0.1 * torch.randn_like(parameter)
    sample = batch()
    sample["net_input"]["src_tokens"][0, :2] = PAD
    sample["net_input"]["prev_output_tokens"][1, -2:] = PAD
    alphas = model.architecture.alphas()
    theta = [weight for name, weight in model.named_parameters() if "architecture" not in name]

    def gradients_of(tensors):
        torch.manual_seed(3)
        loss = criterion(model, sample)[0]
        model.train(not evaluates_between)
        found = torch.autograd.grad(loss, tensors)
        model.train()
        return found

    results = {}
    for mode in ("store", "checkpoint", "reconstruct"):
        set_backprop(model, mode)
        of_all = gradients_of([*theta, *alphas])
        with only_alpha_requires_grad(model):
            of_alpha = gradients_of(alphas)
        model.architecture.requires_grad_(False)
        of_theta = gradients_of(theta)
        model.architecture.requires_grad_(True)
        results[mode] = [*of_all, *of_alpha, *of_theta]
    total = torch.stack([gradient.norm() for gradient in results["store"]]).norm()
    for mode in ("checkpoint", "reconstruct"):
        for expected, found in zip(results["store"], results[mode]):
            error = (expected - found).norm()
            assert error <= 1e-10 * max(expected.norm(), 1e-4 * total)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_mixture_is_summed_in_single_precision(dtype):
    """In half precision the shares of thirteen candidates would be rounded again and again."""
    torch.manual_seed(0)
    names = CANDIDATES["encoder"]
    node = MixedOperation(names, node_settings("encoder")).to(dtype)
    h = torch.randn(5, 2, 8, dtype=dtype)
    mixture = NodeMixture(tuple(range(len(names))), torch.randn(len(names)).softmax(-1))
    terms = [candidate(h, context("encoder", 5)).float() for candidate in node.candidates]
    expected = sum(p * term for p, term in zip(mixture.probabilities, terms))
    output = node(h, context("encoder", 5), mixture)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, expected, rtol=1e-6, atol=1e-6)
    again = node.recompute_and_backward(h, torch.ones(5, 2, 8), context("encoder", 5), mixture, {})
    assert torch.equal(again, output)
