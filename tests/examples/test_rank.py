"""rank.py: percentiles, the best of k, and rank correlation with what a search believes."""

import importlib.util
import itertools
import math
import statistics
import sys

import pytest
import torch
from helpers import genotypes
from hypothesis import given, settings
from hypothesis import strategies as st
from running import CHECKOUT

from fairseq_revdarts.genotype import operations_by_node
from fairseq_revdarts.search_space import CANDIDATES

sys.path.insert(0, str(CHECKOUT / "examples/multi30k"))
spec = importlib.util.spec_from_file_location("rank", CHECKOUT / "examples/multi30k/rank.py")
rank = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rank)
sys.path.pop(0)

moderate = settings(deadline=None, max_examples=50)
some = st.lists(st.integers(0, 6), min_size=2, max_size=8)


@moderate
@given(some, st.integers(1, 3))
def test_the_best_of_k_is_the_mean_over_all_draws(losses, k):
    draws = itertools.product(losses, repeat=k)
    assert rank.best_of(k, losses) == pytest.approx(statistics.mean(map(min, draws)))


@moderate
@given(some)
def test_tau_is_one_of_the_same_ranking_and_minus_one_of_the_opposite(ranking):
    if len(set(ranking)) > 1:
        assert rank.kendall_tau(ranking, [3 * x + 1 for x in ranking]) == pytest.approx(1)
        assert rank.kendall_tau(ranking, [-x for x in ranking]) == pytest.approx(-1)
    assert math.isnan(rank.kendall_tau(ranking, [0] * len(ranking)))


def test_tau_of_a_known_example():
    # 8 of 10 pairs agree: (8 - 2) / 10
    assert rank.kendall_tau([1, 2, 3, 4, 5], [2, 1, 3, 5, 4]) == pytest.approx(0.6)


def test_percentiles():
    assert [rank.percentile(x, [1, 2, 3, 4]) for x in (0, 1, 2.5, 5)] == [100, 87.5, 50, 0]


@settings(deadline=None, max_examples=10)
@given(
    st.lists(genotypes(layers=(2, 2), splits=(3, 3)), min_size=1, max_size=3), st.integers(0, 99)
)
def test_beliefs_are_log_probabilities(tmp_path_factory, drawn, seed):
    torch.manual_seed(seed)
    splits = {"encoder": 3, "decoder": 2}
    alphas = {s: torch.randn(2, splits[s], len(CANDIDATES[s])) for s in CANDIDATES}
    path = tmp_path_factory.mktemp("search") / "checkpoint_last.pt"
    torch.save({"model": {f"architecture.{s}": alpha for s, alpha in alphas.items()}}, path)
    found = rank.beliefs(path, [genotype.to_json() for genotype in drawn])
    for belief, genotype in zip(found, drawn):
        expected = 0.0
        for node, name in operations_by_node(genotype).items():
            side, i, k = node.split(".")
            row = alphas[side][int(i) - 1, int(k) - 1].log_softmax(-1)
            expected += row[CANDIDATES[side].index(name)].item()
        assert belief == pytest.approx(expected, abs=1e-4)
