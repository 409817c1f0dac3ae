"""rank.py: percentiles, the best of k, and rank correlation with what a search believes."""

import importlib.util
import itertools
import random
import statistics
import sys

import pytest
import torch
from helpers import genotypes
from hypothesis import given, settings
from hypothesis import strategies as st
from running import CHECKOUT

from fairseq_revdarts.genotype import Genotype, load_genotype, operations_by_node, random_genotype
from fairseq_revdarts.search_space import CANDIDATES

sys.path.insert(0, str(CHECKOUT / "examples/multi30k"))
spec = importlib.util.spec_from_file_location("rank", CHECKOUT / "examples/multi30k/rank.py")
rank = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rank)
sys.path.pop(0)

SPLITS = {"encoder": 2, "decoder": 3}
moderate = settings(deadline=None, max_examples=50)
some = st.lists(st.integers(0, 6), min_size=2, max_size=8)


@moderate
@given(some, st.integers(1, 3))
def test_the_best_of_k_is_the_mean_over_all_draws(losses, k):
    draws = itertools.product(losses, repeat=k)
    assert rank.best_of(k, losses) == pytest.approx(statistics.mean(map(min, draws)))


def test_percentiles():
    assert [rank.percentile(x, [1, 2, 3, 4]) for x in (0, 1, 2.5, 5)] == [100, 87.5, 50, 0]


def test_tau_in_all_and_in_the_best_third():
    losses = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    ranking = [2, 1, 3, 4, 5, 6, 7, 8, 9]  # one of 36 pairs the other way round, and one of 3
    assert rank.tau(ranking, losses) == "Kendall's tau 0.94, in the best third 0.33"


def test_each_genotype_has_a_loss_of_its_own_with_a_supernets_weights(search):
    genotype = load_genotype(str(search[0] / "genotype.json"))
    others = [random_genotype(random.Random(seed), "max", 2, SPLITS) for seed in range(2)]
    names = [each.to_json() for each in (genotype, *others)]
    losses = rank.path_losses(search[0] / "checkpoint_last.pt", names)
    assert len(set(losses)) == 3 and min(losses) > 0
    assert rank.path_losses(search[0] / "checkpoint_last.pt", names[::-1]) == losses[::-1]


def test_p_is_the_share_of_splits_with_so_low_a_mean():
    # Of the 10 ways to choose two of these five, only {1, 2} has a mean as low.
    assert rank.p_value([1, 2], [3, 4, 5]) == pytest.approx(1 / 10)
    assert rank.p_value([4, 5], [1, 2, 3]) == 1


def rows(kind, losses, bleus):
    return [
        {"kind": kind, "genotype": str(number), "loss": loss, "bleu": bleu}
        for number, (loss, bleu) in enumerate(zip(losses, bleus))
    ]


def test_each_kind_of_network_gets_its_place():
    table = rows("random", [2, 3, 4, 5], [20, 19, 18, 17])
    networks = rows("found", [1, 2.5], [19.5, 30]) + rows("transformer", [9], [20.5])
    found, transformer = rank.compare(networks, table, "loss")
    assert "found: 2 networks, mean loss 1.750, better than 100, 75 %" in found
    assert "(1 above 90 %), p = 0." in found
    assert "better than 0 %" in transformer and "p =" not in transformer
    found, transformer = rank.compare(networks, table, "bleu")
    assert "found: 2 networks, mean BLEU 24.750, better than 75, 100 %" in found
    assert "mean BLEU 20.500, better than 100 %" in transformer


def test_seeds_of_a_genotype_are_noise_and_count_once():
    table = rows("random", [2, 3, 5], [0, 0, 0]) + rows("random", [2, 5], [0, 0])
    text = rank.spread(table, "loss")  # of the seeds, the variances are 0 and 2
    assert text == (
        "mean loss 3.667, standard deviation between genotypes 1.528, "
        "between seeds of one 1.000 (2 genotypes)"
    )
    assert rank.spread(table[:1], "bleu") == "mean BLEU 0.000"


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 99))
def test_an_additive_fit_predicts_losses_that_are_sums_over_the_nodes(seed):
    generator = random.Random(seed)
    worth = {
        name: generator.random()
        for side in CANDIDATES
        for name in map(rank.family, CANDIDATES[side])
    }
    table = {}
    for _ in range(100):
        genotype = random_genotype(generator, "max", 2, SPLITS)
        names = operations_by_node(genotype).values()
        table[genotype.to_json()] = sum(worth[rank.family(name)] for name in names)
    predicted, losses = rank.additive_fit(table), list(table.values())
    assert rank.kendalltau(predicted, losses)[0] > 0.85
    # A genotype is judged by the others alone: with another loss, it is predicted as before.
    last = list(table)[-1]
    assert rank.additive_fit({**table, last: 99.0})[-1] == predicted[-1]


def test_families_with_and_without():
    def genotype(name):
        layer = (name, "conv_3", "cross_attention")
        return Genotype("max", (("ffn", "zero"),) * 2, (layer,) * 2).to_json()

    table = {genotype("glu"): 2.0, genotype("conv_7"): 3.0, genotype("conv_11"): 4.0}
    lines = rank.with_and_without(table)
    assert "| decoder | feed-forward | 1 | 2.000 | 2 | 3.500 |" in lines
    assert "| encoder | parameter-free | 3 | 3.000 |" in lines  # all have it
    assert not any("encoder | convolution" in line for line in lines)


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
