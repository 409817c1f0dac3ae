"""Elimination: the schedule, the subsets, and searches through fairseq's commands."""

import logging
import math
import re
import shutil
import statistics
from types import SimpleNamespace

import pytest
import torch
from fairseq import checkpoint_utils
from helpers import build_model
from hypothesis import given, settings
from hypothesis import strategies as st
from interrupt import same, state
from running import (
    GENERATE,
    RETRAIN,
    SEARCH,
    hypotheses,
    load,
    read_log,
    run,
    train,
    train_in_process,
)

from fairseq_revdarts import RevDartsTransformerModel
from fairseq_revdarts.derivation import rows_by_node
from fairseq_revdarts.genotype import load_genotype, operations_by_node
from fairseq_revdarts.profiling.schedule import all_equal
from fairseq_revdarts.search.elimination import BATCHES, MEASURED, Elimination
from fairseq_revdarts.search.paths import probability_of_less
from fairseq_revdarts.search_space import CANDIDATES

moderate = settings(deadline=None, max_examples=50)
UPDATES = 8
#: Of 20 pairs 14 update theta, in 7 batches, and 6 alpha, in 3. Candidates are eliminated after
#: the updates 4 to 7; the last update trains the derived network.
ELIMINATION = [
    *SEARCH,
    *("--train-subset=valid", "--batch-size=2", "--alpha-split=0.3", "--log-interval=1"),
    *("--search-strategy=elimination", "--warmup-share=0.3", "--elimination-share=(0.4, 0.85)"),
    "--save-interval-updates=1",
]


def elimination(model=None, **flags):
    cfg = {"seed": 1, "max_update": 1000, "warmup_share": 0.2, "active_share": 0.4}
    cfg = SimpleNamespace(**{**cfg, "elimination_share": "(0.5, 0.95)", **flags})
    return Elimination(model or build_model(), cfg)


def nodes_of(architecture):
    return [n for side in CANDIDATES for n in rows_by_node(side, architecture.tables()[side])]


# ------------------------------------------------------------------------------- the rules


@moderate
@given(st.integers(1, 40), st.integers(1, 400), st.floats(0, 0.9), st.floats(0.01, 0.1))
def test_ever_fewer_candidates_live_from_all_to_one(candidates, updates, begin, length):
    share = (begin, min(1.0, begin + length))
    rule = elimination(max_update=updates, elimination_share=str(share))
    living = [rule.living_after(update, candidates, 4) for update in range(updates + 1)]
    assert living == sorted(living, reverse=True)
    assert living[-1] == 4
    assert all(n == 4 * candidates for u, n in enumerate(living) if u <= share[0] * updates)
    assert all(n == 4 for u, n in enumerate(living) if u / updates >= share[1])


MODEL = build_model()


@moderate
@given(st.integers(1, 10**6), st.floats(0.01, 1), st.integers(0, 2**31))
def test_subsets_are_of_the_living_and_the_same_for_the_same_update(update, share, seed):
    rule = elimination(MODEL, active_share=share, seed=seed, max_update=10**6, warmup_share=0.0)
    for active in (rule.for_theta(update), rule.for_alpha(update)):
        for side in CANDIDATES:
            for layer, whole in zip(active[side], MODEL.architecture.living(side)):
                for chosen, living in zip(layer, whole):
                    assert set(chosen) <= set(living) and list(chosen) == sorted(set(chosen))
                    assert len(living) * share <= len(chosen) <= len(living) * share + 2
    assert rule.for_theta(update) == elimination(
        MODEL, active_share=share, seed=seed, max_update=10**6
    ).for_theta(update)


def test_the_count_of_the_active_follows_the_schedule():
    model = build_model()
    rule = elimination(model, max_update=40)
    for update in range(1, 41):
        active = sum(rule.for_theta(update)["decoder"], ())
        living = list(map(len, sum(model.architecture.living("decoder"), ())))
        assert sum(living) == rule.living_after(update - 1, 14, 4)
        assert max(living) <= min(living) + 1  # the nodes take turns
        for number, chosen in zip(living, active):
            assert len(chosen) == min(number, max(2, math.ceil(0.4 * number)))
        rule.after_update(update, all_equal)
    assert set(map(len, active)) == {1}


def test_every_candidate_is_trained_equally_often():
    rule, counts = elimination(MODEL), torch.zeros(13)
    for update in range(2000):
        for index in rule.for_theta(update)["encoder"][1][0]:
            counts[index] += 1
    expected = counts.sum() / 13
    assert (counts - expected).abs().max() < 0.12 * expected


def test_alpha_rests_in_the_warm_up_and_when_all_is_decided():
    model = build_model()
    rule = elimination(model)
    assert rule.for_alpha(200) is None and rule.for_alpha(201) is not None
    rule.after_update(1000, all_equal)
    assert all(len(n) == 1 for s in CANDIDATES for la in model.architecture.living(s) for n in la)
    assert rule.for_alpha(1000) is None


@pytest.mark.parametrize(("updates", "rate"), [(1_000, 0.12), (30_000, 0.004)])
def test_alpha_can_go_equally_far_in_searches_of_any_length(updates, rate):
    assert elimination(max_update=updates).alpha_defaults() == (pytest.approx(rate), 0.0)


@pytest.mark.parametrize("update", [550, 600, 650, 700])
def test_the_smallest_alpha_goes_first(update):
    model = build_model()
    rule, alpha = elimination(model), model.architecture.decoder
    rule.after_update(update, all_equal)
    for row, living in zip(alpha.flatten(0, 1), sum(model.architecture.living("decoder"), ())):
        assert set(living) == set(row.topk(len(living)).indices.tolist())
        assert MEASURED <= len(living) < 14


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**31), noise=st.floats(0, 0.1))
def test_the_last_one_is_the_best_of_those_that_were_measured(seed, noise):
    """Whatever alpha says of them. A loss is a sum over the nodes, and differs between batches."""
    model, generator = build_model(), torch.Generator().manual_seed(seed)
    decoder = CANDIDATES["decoder"]  # those of the encoder, and one more
    rule, architecture = elimination(model), model.architecture
    for alpha in architecture.alphas():
        alpha.copy_(torch.randn(alpha.shape, generator=generator))
    loss_of = {node: torch.rand(14, generator=generator) for node in nodes_of(architecture)}
    chance = noise * torch.randn(BATCHES, generator=generator)

    def measure(paths, count):
        chosen = [operations_by_node(path).items() for path in paths]
        losses = [sum(loss_of[node][decoder.index(name)] for node, name in path) for path in chosen]
        return (torch.stack(losses)[:, None] + chance) / count

    for update in range(500, 1001):
        rule.after_update(update, measure)
    for node, name in operations_by_node(architecture.genotype()).items():
        side, layer, split = node.split(".")
        alpha = getattr(architecture, side)[int(layer) - 1, int(split) - 1]
        best = min(alpha.topk(MEASURED).indices.tolist(), key=loss_of[node].__getitem__)
        assert name == decoder[best]
        last = architecture.last_choices()[side][int(layer) - 1][int(split) - 1]
        assert last[best] == max(last) >= 0.5 and sum(last) == pytest.approx(1)


@moderate
@given(st.lists(st.floats(-1, 1), min_size=12, max_size=12), st.floats(-1, 1))
def test_how_probable_it_is_that_a_loss_is_the_smaller_one(chance, difference):
    """By the mean of the differences on the batches, and its standard error."""
    one = torch.tensor(chance, dtype=torch.float64)
    other = one.flip(0) + difference
    p = probability_of_less(one, other)
    assert probability_of_less(other, one) == pytest.approx(1 - p)
    assert probability_of_less(one[:1], other[:1]) == 0.5
    assert probability_of_less(one, torch.full_like(one, math.inf)) == 0.99
    assert probability_of_less(torch.full_like(one, math.inf), one) == 0.01
    differences = (other - one).tolist()
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    if error > 1e-6:
        expected = statistics.NormalDist().cdf(statistics.mean(differences) / error)
        assert p == pytest.approx(min(0.99, max(0.01, expected)), abs=1e-6)


def test_the_log_says_how_sure_each_last_choice_was(caplog):
    model = build_model()
    rule, alpha = elimination(model), model.architecture.encoder
    rising = torch.arange(8.0).view(4, 2)
    with caplog.at_level(logging.INFO):
        for update in range(500, 1001):
            rule.after_update(update, lambda paths, count: rising[: len(paths)])
            alpha += 1e-3 * torch.randn(alpha.shape)  # what happens later does not count
    heading, *lines = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(r"update \d+: one candidate is left in each node", heading)
    assert len(lines) == sum(table[..., 0].numel() for table in model.architecture.alphas())
    said = r": \w+, better than \w+ with a probability of 0\.99"
    assert all(re.search(said, line) for line in lines)


# ------------------------------------------------------------------------------- searches


@pytest.fixture(scope="module")
def eliminated(data, tmp_path_factory):
    """The folder of a search to its end, with a checkpoint of every update."""
    folder = tmp_path_factory.mktemp("elimination")
    train(data, folder, *ELIMINATION, updates=UPDATES)
    return folder


def checkpoint(folder, update):
    (path,) = folder.glob(f"checkpoint_*_{update}.pt")
    return path


def living_of(path):
    return {side: load(path)["model"][f"architecture.{side}_living"] for side in CANDIDATES}


def test_one_candidate_is_left_and_it_is_the_genotype(eliminated, tmp_path):
    for living in living_of(eliminated / "checkpoint_last.pt").values():
        assert (living.sum(-1) == 1).all()
    genotype = (eliminated / "genotype.json").read_text()
    report = run("revdarts-derive", eliminated, "-o", tmp_path / "derived.json")
    assert (tmp_path / "derived.json").read_text() == genotype
    for node, name in operations_by_node(load_genotype(genotype)).items():
        p, other = re.search(rf"^{node} +{name}\* +(0\.\d+) +\w+ +(0\.\d+)$", report, re.M).groups()
        assert 0.5 <= float(p) < 1 and float(p) + float(other) == pytest.approx(1, abs=0.002)
    *_, last = read_log(eliminated / "search.jsonl")
    for node, name in operations_by_node(load_genotype(genotype)).items():
        row = last["probabilities"][node]
        assert row.pop(name) == 1 and set(row.values()) == {0}
    assert last["alpha_loss"] is None and last["living"] == 1


def test_the_log_names_what_is_eliminated(eliminated):
    before, *_, last = entries = read_log(eliminated / "search.jsonl")
    assert "eliminated" not in before
    for node, names in last["eliminated"].items():
        assert len(names) == len(CANDIDATES[node.split(".")[0]]) - 1
    assert last["eliminated"].keys() == last["probabilities"].keys()
    for entry in entries:
        for node, row in entry["probabilities"].items():
            gone = entry.get("eliminated", {}).get(node, [])
            assert gone == [name for name, p in row.items() if p == 0]


def test_the_number_of_living_candidates_falls_in_the_log(eliminated):
    living = [entry["living"] for entry in read_log(eliminated / "search.jsonl")]
    assert living[:3] == [13.5] * 3 and living == sorted(living, reverse=True)
    assert len(set(living)) > 3


def theta(path):
    """The supernet in a checkpoint; by name, each weight with its state in Adam."""
    (model,), _ = checkpoint_utils.load_model_ensemble([str(path)])
    content = load(path)
    weights, adam = content["model"], content["last_optimizer_state"]["state"]
    names = [n for n, _ in model.named_parameters() if not n.startswith("architecture")]
    return model, {n: {"weight": weights[n], **adam.get(i, {})} for i, n in enumerate(names)}


@pytest.mark.parametrize(
    "flags", [(), ("--fp16", "--fp16-no-flatten-grads"), ("--memory-efficient-fp16",)]
)
def test_idle_candidates_keep_their_weights_and_their_moments(data, eliminated, tmp_path, flags):
    """Eliminated ones, and those that live but are not drawn in an update."""
    if flags:
        flags += ("--fp16-init-scale=4",)
        train_in_process(data, tmp_path, *ELIMINATION, *flags, updates=UPDATES)
        eliminated = tmp_path
    saved = [theta(checkpoint(eliminated, update)) for update in range(1, 7)]
    for update, ((model, before), (_, after)) in enumerate(zip(saved, saved[1:]), 2):
        moved = {name for name in before if not same(before[name], after[name])}
        assert moved
        for side, cell in elimination(model).for_theta(update).items():
            for layer, nodes in enumerate(cell):
                for split, drawn in enumerate(nodes):
                    prefix = f"{side}.stack.layers.{layer}.nodes.{split}.candidates."
                    of_node = [name[len(prefix) :] for name in moved if name.startswith(prefix)]
                    assert {int(name.split(".")[0]) for name in of_node} <= set(drawn)


def test_eliminated_candidates_keep_their_alpha(eliminated):
    saved = [load(checkpoint(eliminated, update))["model"] for update in range(1, 7)]
    lost = 0
    for before, after in zip(saved, saved[1:]):
        for side in CANDIDATES:
            gone = ~before[f"architecture.{side}_living"]
            alpha = f"architecture.{side}"
            assert same(before[alpha][gone], after[alpha][gone])
            lost += int(gone.sum())
    assert lost > 0


@pytest.mark.parametrize("update", [2, 4, 5, 6])
def test_a_search_that_is_killed_resumes_bit_by_bit(data, eliminated, tmp_path, update):
    shutil.copy(checkpoint(eliminated, update), tmp_path / "checkpoint_last.pt")
    lines = (eliminated / "search.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "search.jsonl").write_text("".join(lines))
    train_in_process(data, tmp_path, *ELIMINATION, updates=UPDATES)
    assert same(state(eliminated), state(tmp_path))


@pytest.mark.parametrize("flag", ["--reset-optimizer", "--finetune-from-model"])
def test_a_new_schedule_begins_with_all_candidates(data, eliminated, tmp_path, caplog, flag):
    last = eliminated / "checkpoint_last.pt"
    if flag == "--reset-optimizer":
        shutil.copy(last, tmp_path / "checkpoint_last.pt")
    else:
        flag = f"{flag}={last}"
    flags = [*ELIMINATION, flag, "--elimination-share=(0.9, 1)", "--no-save"]
    with caplog.at_level("WARNING"):
        train_in_process(data, tmp_path, *flags, updates=2)
    assert caplog.text.count("the eliminated candidates live again") == 1
    assert [entry["living"] for entry in read_log(tmp_path / "search.jsonl")] == [13.5, 1]


def test_a_search_that_ends_early_says_what_is_not_decided(data, tmp_path, caplog):
    with caplog.at_level("INFO"):
        flags = ("--max-epoch=1", "--elimination-share=(0.5, 0.9)")
        train_in_process(data, tmp_path, *ELIMINATION, *flags, updates=50)
    assert "8 of 8 nodes have several candidates left; all are decided by update 45" in caplog.text


def test_what_is_said_of_a_search_that_has_not_ended(eliminated, tmp_path):
    files = ("-o", tmp_path / "genotype.json", "--weights", tmp_path / "network.pt")
    said = [run("revdarts-derive", checkpoint(eliminated, n), *files) for n in (5, UPDATES)]
    assert "8 of 8 nodes have several candidates left" in said[0]
    assert "in 8 nodes the operation had less than 90 % of the mixture" in said[0]
    assert "warning" not in said[1]


def test_a_checkpoint_between_two_eliminations_translates(data, eliminated):
    command = ("fairseq-generate", data, "--path", checkpoint(eliminated, 5), "--beam=2", *GENERATE)
    assert len(hypotheses(run(*command))) == 13


def test_the_network_that_is_left_can_be_used_at_once(data, raw, eliminated, tmp_path):
    network, last = tmp_path / "network.pt", eliminated / "checkpoint_last.pt"
    run("revdarts-derive", eliminated, "-o", tmp_path / "genotype.json", "--weights", network)
    ours, theirs = (
        run("fairseq-generate", data, "--path", path, "--beam=2", *GENERATE)
        for path in (network, last)
    )
    assert hypotheses(ours) == hypotheses(theirs)
    pieces = (raw / "pieces/test.en").read_text().splitlines()[:3]
    ours, theirs = (
        RevDartsTransformerModel.from_pretrained(path.parent, path.name, data).translate(pieces)
        for path in (network, last)
    )
    assert ours == theirs
    assert network.stat().st_size < 0.5 * last.stat().st_size
    more = [*RETRAIN, f"--genotype={tmp_path / 'genotype.json'}", "--max-epoch=1", "--lr=1e-9"]
    train_in_process(data, tmp_path / "tuned", *more, f"--finetune-from-model={network}", updates=2)
    before, after = (load(p)["model"] for p in (network, tmp_path / "tuned/checkpoint_last.pt"))
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


@pytest.mark.parametrize("backprop", ["store", "checkpoint"])
def test_every_backprop_gives_the_same_search(data, eliminated, tmp_path, backprop):
    train_in_process(data, tmp_path, *ELIMINATION, f"--backprop={backprop}", updates=UPDATES)
    expected, found = (read_log(f / "search.jsonl") for f in (eliminated, tmp_path))
    for one, other in zip(expected, found):
        assert other["loss"] == pytest.approx(one["loss"], abs=1e-4)
        assert other["living"] == one["living"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--elimination-share=0.5"], "--elimination-share 0.5: two shares"),
        (["--elimination-share=(0.9, 0.5)"], "the smaller one first"),
        (["--warmup-share=0.6"], "--warmup-share 0.6: from 0 to the begin"),
        (["--active-share=0"], "--active-share 0.0: above 0"),
        (["--alpha-start=5"], "--alpha-start 5: not with --search-strategy elimination"),
    ],
)
def test_flags_that_do_not_fit_are_refused(data, tmp_path, flags, message):
    with pytest.raises(ValueError) as error:
        train_in_process(data, tmp_path, *ELIMINATION, *flags, updates=UPDATES)
    assert message in str(error.value)


def test_a_search_without_a_length_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="--max-update 0: --search-strategy elimination needs"):
        train_in_process(data, tmp_path, *ELIMINATION, "--max-epoch=1", updates=0)
