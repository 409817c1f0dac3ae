"""What networks cost, the gradient of the penalty, and what elimination leaves within a limit."""

from types import SimpleNamespace

import pytest
import torch
from helpers import build_model, genotypes
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fairseq_revdarts.modules.mixture import softmax_over
from fairseq_revdarts.profiling.schedule import all_equal
from fairseq_revdarts.search.cost import Budget, Costs, parameter_costs
from fairseq_revdarts.search.derived_weights import derived_weights
from fairseq_revdarts.search.elimination import Elimination
from fairseq_revdarts.search_space import CANDIDATES
from fairseq_revdarts.utils.parameters import count_parameters

few, moderate = settings(deadline=None, max_examples=10), settings(deadline=None, max_examples=40)


def random_costs(architecture, generator, fixed=5.0):
    tables = {
        side: (10 * torch.rand(alpha.shape, generator=generator)).tolist()
        for side, alpha in zip(CANDIDATES, architecture.alphas())
    }
    return Costs("latency", fixed, tables)


def random_living(architecture, generator):
    """Any living candidates, at least one in each node."""
    living = {}
    for side, alpha in zip(CANDIDATES, architecture.alphas()):
        mask = torch.rand(alpha.shape, generator=generator) < 0.5
        mask[..., int(generator.seed()) % alpha.size(-1)] = True
        living[side] = [[tuple(node.nonzero().flatten().tolist()) for node in row] for row in mask]
    return living


# ------------------------------------------------------------------------------- costs


@few
@given(genotypes(layers=(2, 2), splits=(3, 3)), st.booleans(), st.booleans())
def test_parameters_are_those_of_the_derived_network(genotype, shared, some):
    """As revdarts-derive counts them, whatever shares an architecture, or embeddings."""
    allowed = {name for side in CANDIDATES for row in getattr(genotype, side) for name in row}
    names = ",".join(name for name in CANDIDATES["encoder"] if name in allowed) or None
    model = build_model(
        **{"encoder_layers": 4, "encoder_splits": 3, "share_all_embeddings": shared},
        encoder_candidates=names if some else None,
    )
    expected = count_parameters(derived_weights(model.state_dict(keep_vars=False), genotype))
    assert parameter_costs(model).of(genotype) == expected


@moderate
@given(st.integers(0, 2**31))
def test_the_least_cost_is_that_of_the_cheapest_network(seed):
    model, generator = build_model(cell_layers=1), torch.Generator().manual_seed(seed)
    costs = random_costs(model.architecture, generator)
    living = random_living(model.architecture, generator)
    paths = [
        {side: [[(node[0],) for node in row] for row in cell] for side, cell in living.items()},
        {side: [[(node[-1],) for node in row] for row in cell] for side, cell in living.items()},
    ]
    assert costs.least(living) <= min(map(costs.least, paths)) + 1e-9
    cheapest = {
        side: [
            [(min(node, key=row.__getitem__),) for node, row in zip(nodes, rows)]
            for nodes, rows in zip(living[side], costs.tables[side])
        ]
        for side in CANDIDATES
    }
    assert costs.least(cheapest) == pytest.approx(costs.least(living))


# ------------------------------------------------------------------------------- the penalty

MODEL = build_model(cell_layers=1)


@moderate
@given(st.integers(0, 2**31), st.floats(0.3, 2))
def test_the_gradient_of_the_penalty_in_double_precision(seed, share):
    """Against finite differences, and against p_o (cost_o - sum of p cost) weight / limit."""
    generator = torch.Generator().manual_seed(seed)
    costs, living = (make(MODEL.architecture, generator) for make in (random_costs, random_living))
    alphas = [
        torch.randn(alpha.shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for alpha in MODEL.architecture.alphas()
    ]
    by_side = dict(zip(CANDIDATES, alphas))
    probabilities = {side: softmax_over(by_side[side], living[side]) for side in CANDIDATES}
    expected = float(Budget(costs, 1.0, 1.0).expected(probabilities))
    assume(abs(share - 1) > 1e-3)  # at the limit there is no derivative
    budget = Budget(costs, share * expected, 3.0)

    def penalty(*alphas):
        return budget.penalty(dict(zip(CANDIDATES, alphas)), living)

    assert float(penalty(*alphas)) == pytest.approx(max(0.0, 3 * (1 / share - 1)), abs=1e-9)
    assert torch.autograd.gradcheck(penalty, alphas)
    for side, gradient in zip(CANDIDATES, torch.autograd.grad(penalty(*alphas), alphas)):
        p, cost = probabilities[side], torch.tensor(costs.tables[side], dtype=torch.float64)
        by_hand = p * (cost - (p * cost).sum(-1, keepdim=True)) * 3 / budget.limit
        torch.testing.assert_close(gradient, by_hand if share < 1 else torch.zeros_like(p))


@pytest.mark.parametrize("tokens", [1.0, 700.0, 0.0])
def test_the_penalty_is_in_nats_per_token(tokens):
    """What alpha's step divides by the tokens gains the same gradient, however many they are."""
    architecture = MODEL.architecture
    costs = random_costs(architecture, torch.Generator().manual_seed(1))
    budget = Budget(costs, 10.0, 0.7)
    sums = [tokens * torch.ones_like(alpha) for alpha in architecture.alphas()]
    found = budget.add_penalty(architecture, sums, tokens)
    alphas = [alpha.double().requires_grad_() for alpha in architecture.alphas()]
    living = {side: architecture.living(side) for side in CANDIDATES}
    penalty = budget.penalty(dict(zip(CANDIDATES, alphas)), living)
    for gradient, added in zip(found, torch.autograd.grad(penalty, alphas)):
        assert gradient.dtype == torch.float32
        mean = gradient / max(tokens, 1)
        torch.testing.assert_close(mean, min(tokens, 1) + added.float(), rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------- elimination


@moderate
@given(st.integers(0, 2**31), st.floats(0, 1), st.integers(1, 30))
def test_what_is_left_is_always_within_the_limit(seed, slack, updates):
    """There always is a candidate that may go, however tight the limit and short the search."""
    generator = torch.Generator().manual_seed(seed)
    model = build_model(cell_layers=2)
    architecture = model.architecture
    for alpha in architecture.alphas():
        alpha.copy_(3 * torch.randn(alpha.shape, generator=generator))
    costs = random_costs(architecture, generator)
    living = {side: architecture.living(side) for side in CANDIDATES}
    most = Costs("latency", -costs.fixed, negated(costs.tables)).least(living)
    least = costs.least(living)
    budget = Budget(costs, least + slack * (-most - least), 1.0)
    cfg = SimpleNamespace(max_update=updates, elimination_share="(0.1, 0.9)")
    rule = Elimination(model, cfg, budget)
    for update in range(1, updates + 1):
        rule.after_update(update, all_equal)
        assert budget.allows({side: architecture.living(side) for side in CANDIDATES})
        left = sum(len(node) for row in architecture.living("encoder") for node in row)
        assert left == rule.living_after(update, 13, 4)
    assert architecture.mean_living() == 1
    assert costs.of(architecture.genotype()) <= budget.limit


def negated(tables):
    return {
        side: [[[-cost for cost in row] for row in layer] for layer in table]
        for side, table in tables.items()
    }


def test_a_limit_that_all_networks_keep_changes_nothing():
    found = []
    for limit in (None, 1e9):
        torch.manual_seed(4)
        model = build_model()
        budget = limit and Budget(parameter_costs(model), limit, 1.0)
        rule = Elimination(
            model, SimpleNamespace(max_update=40, elimination_share="(0.1, 0.9)"), budget
        )
        for update in range(1, 41):
            rule.after_update(update, all_equal)
        found.append((model.architecture.genotype(), model.architecture.last_choices()))
    assert found[0] == found[1]
