"""Searches within a budget of parameters, through fairseq's commands."""

import re
import shutil

import pytest
import torch
from interrupt import same, state
from processes import train_together
from running import SEARCH, load, read_log, train_in_process

from fairseq_revdarts.cli.derive import main as derive
from fairseq_revdarts.genotype import load_genotype
from fairseq_revdarts.search.derived_weights import derived_weights
from fairseq_revdarts.search_space import CANDIDATES
from fairseq_revdarts.utils.parameters import count_parameters

SMALL = [*SEARCH, "--train-subset=valid", "--batch-size=2", "--alpha-split=0.3", "--log-interval=1"]
ELIMINATION = [
    *("--search-strategy=elimination", "--warmup-share=0.2", "--elimination-share=(0.3, 0.9)"),
]


# ------------------------------------------------------------------------------- searches


def parameters_of(folder):
    content = load(folder / "checkpoint_last.pt")
    genotype = load_genotype(str(folder / "genotype.json"))
    return count_parameters(derived_weights(content["model"], genotype))


@pytest.fixture(scope="module")
def loose(data, tmp_path_factory):
    """A search of eight updates by elimination, with a limit that it need not mind."""
    folder = tmp_path_factory.mktemp("cost") / "loose"
    flags = [*SMALL, *ELIMINATION, "--cost=parameters", "--cost-limit=1e6"]
    train_in_process(data, folder, *flags, "--save-interval-updates=2", updates=8)
    return folder


def test_a_tighter_limit_gives_a_network_at_or_under_it(data, loose, tmp_path, capsys, caplog):
    free = parameters_of(loose)
    limit = int(0.8 * free)
    flags = [*SMALL, *ELIMINATION, "--cost=parameters", f"--cost-limit={limit}"]
    with caplog.at_level("INFO"):
        train_in_process(data, tmp_path, *flags, updates=8)
    size = parameters_of(tmp_path)
    assert size <= limit < free
    last = read_log(tmp_path / "search.jsonl")[-1]
    assert last["cost"] == size and last["cost_limit"] == limit
    assert f"{size:,} parameters, within --cost-limit {limit:,}" in caplog.text
    derive([str(tmp_path), "-o", str(tmp_path / "derived.json")])
    output = capsys.readouterr().out
    assert f"derived.json: {size:,} parameters, probability 1" in output
    assert "warning" not in output.split("genotype written")[1]


def test_a_search_resumes_bit_by_bit_and_within_another_limit(data, loose, tmp_path):
    """One that networks of the candidates that are left can keep; another is refused."""
    flags = [*SMALL, *ELIMINATION, "--cost=parameters", "--save-interval-updates=2"]
    (middle,) = loose.glob("checkpoint_*_4.pt")
    for folder in ("same", "lower", "refused"):
        (tmp_path / folder).mkdir()
        shutil.copy(middle, tmp_path / folder / "checkpoint_last.pt")
        shutil.copy(loose / "search.jsonl", tmp_path / folder / "search.jsonl")
    train_in_process(data, tmp_path / "same", *flags, "--cost-limit=1e6", updates=8)
    assert same(state(loose), state(tmp_path / "same"))
    with pytest.raises(ValueError, match="--cost-limit 1: the cheapest network") as error:
        train_in_process(data, tmp_path / "refused", *flags, "--cost-limit=1", updates=8)
    (least,) = re.findall(r"can find costs ([\d,]+) parameters", str(error.value))
    least = int(least.replace(",", ""))
    train_in_process(data, tmp_path / "lower", *flags, f"--cost-limit={least}", updates=8)
    assert parameters_of(tmp_path / "lower") == least < parameters_of(loose)


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """One update with a penalty beside which the loss is nothing; alpha stays where it is."""
    folder = tmp_path_factory.mktemp("cost") / "alone"
    train_in_process(data, folder, *HEAVY, updates=1)
    return folder


HEAVY = [
    *(*SMALL, "--cost=parameters", "--cost-limit=9000", "--cost-weight=1e7", "--alpha-lr=0"),
    *("--alpha-weight-decay=0", "--cell-layers=1"),
]


def first_moment(folder):
    """A tenth of alpha's gradient in the first update, relative to its largest element."""
    model = load(folder / "checkpoint_last.pt")["model"]
    moments = [model[f"architecture.{side}_exp_avg"] for side in CANDIDATES]
    return torch.cat([moment.flatten() for moment in moments])


@pytest.mark.parametrize(
    "flags",
    [
        ["--update-freq=3"],
        ["--memory-efficient-fp16", "--fp16-init-scale=64", "--backprop=checkpoint"],
        ["two processes"],
    ],
    ids=" ".join,
)
def test_the_penalty_is_added_once_per_update(data, alone, tmp_path, flags):
    """Whatever the number of tokens, micro-batches and processes, and the scale of the loss."""
    if flags == ["two processes"]:
        train_together(data, tmp_path, *HEAVY, "--ddp-backend=legacy_ddp", "--max-update=1")
    else:
        train_in_process(data, tmp_path, *HEAVY, *flags, updates=1)
    expected, found = first_moment(alone), first_moment(tmp_path)
    assert expected.abs().max() > 1e3
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=float(1e-4 * expected.abs().max()))


def test_the_penalty_weighs_as_much_beside_a_loss_per_sentence(data, alone, tmp_path):
    """It is in nats per token: of two sentences, with --sentence-avg, it is half of all tokens'."""
    train_in_process(data, tmp_path, *HEAVY, "--sentence-avg", updates=1)
    ratios = first_moment(tmp_path) / first_moment(alone)
    tokens = 2 * ratios.median()
    assert tokens > 4 and abs(tokens - tokens.round()) < 0.01
    torch.testing.assert_close(ratios, ratios.median().expand_as(ratios), rtol=0.01, atol=0)


def test_a_search_of_all_candidates_says_what_it_costs(data, tmp_path, capsys, caplog):
    """Its most probable operations may be above the limit."""
    flags = ["--cost=parameters", "--cost-limit=9000", "--cost-weight=0", "--alpha-lr=0.3"]
    with caplog.at_level("INFO"):
        train_in_process(data, tmp_path, *SMALL, *flags, updates=2)
    size = parameters_of(tmp_path)
    verdict = f"{size:,} parameters, {100 * (size / 9000 - 1):.3g} % above --cost-limit 9,000"
    assert f"the network in genotype.json: {verdict}" in caplog.text
    derive([str(tmp_path), "-o", str(tmp_path / "derived.json")])
    assert f"warning: {tmp_path / 'derived.json'}: {verdict}" in capsys.readouterr().out


# ------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--cost-limit=5"], "--cost-limit 5.0: --cost is missing; it is one of parameters"),
        (["--cost-weight=5"], "--cost-weight 5.0: --cost is missing"),
        (["--latency-table=x"], "--latency-table x: --cost is missing"),
        (["--cost=parameters"], "--cost parameters: --cost-limit is missing"),
        (["--cost=latency", "--cost-limit=5"], "--cost latency: --latency-table is missing"),
        (
            ["--cost=parameters", "--cost-limit=5", "--latency-table=x"],
            "--latency-table x: not with --cost parameters",
        ),
        (["--cost=parameters", "--cost-limit=-1"], "--cost-limit -1.0: above 0 is needed"),
        (
            ["--cost=parameters", "--cost-limit=1e6", "--cost-weight=-1"],
            "--cost-weight -1.0: at least 0 is needed",
        ),
        (
            ["--cost=parameters", "--cost-limit=1e6", "--search-strategy=sampling"],
            "--cost parameters: not with --search-strategy sampling",
        ),
        (["--cost=parameters", "--cost-limit=100"], "--cost-limit 100: the cheapest network"),
    ],
)
def test_flags_that_do_not_fit_are_refused(data, tmp_path, flags, message):
    with pytest.raises(ValueError) as error:
        train_in_process(data, tmp_path, *SMALL, *flags, updates=1)
    assert message in str(error.value)
    assert not (tmp_path / "genotype.json").exists()
