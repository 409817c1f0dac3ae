"""Networks of several machines in one table."""

import csv
import importlib.util
import math
import re
import statistics
from collections import defaultdict
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import CHECKOUT, run

MULTI30K = CHECKOUT / "examples/multi30k"


def load(name):
    spec = importlib.util.spec_from_file_location(f"multi30k_{name}", MULTI30K / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


network_files = load("network_files")

networks = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(("found", "transformer")),
            "rate": st.sampled_from((0.004, 0.008)),
            "genotype": st.sampled_from(("", "{}")),
            "seed": st.integers(1, 3),
            "parameters": st.integers(1, 10**7),
            "loss": st.floats(0, 10),
            "bleu": st.floats(0, 100),
            "seconds": st.integers(0, 10**4),
        }
    ),
    max_size=8,
)


def identity(network):
    return tuple(network[name] for name in ("kind", "rate", "genotype", "seed"))


@given(networks, networks)
def test_each_training_counts_once_and_those_measured_here_first(here, elsewhere):
    with TemporaryDirectory() as folder:
        path = network_files.Path(folder) / "elsewhere.csv"
        network_files.write_networks(path, elsewhere, network_files.COLUMNS)
        joined = network_files.with_added(here, [network_files.read_networks(path)])
    expected = {identity(each): each for each in (here + elsewhere)[::-1]}
    assert len(joined) == len(expected)
    assert {identity(each): each for each in joined} == expected


@given(networks.filter(len))
def test_each_genotype_counts_once(networks):
    numbers = network_files.each_of(networks, "loss")
    genotypes = {each["genotype"] for each in networks}
    assert len(numbers) == (len(networks) if len(genotypes) == 1 else len(genotypes))
    for genotype in genotypes:
        seeds = [each["loss"] for each in networks if each["genotype"] == genotype]
        assert (
            set(numbers) == set(seeds) if len(genotypes) == 1 else statistics.mean(seeds) in numbers
        )


def test_rows_of_the_benchmark_are_random_genotypes_at_the_rate_of_its_head():
    rows = network_files.read_networks(MULTI30K / "benchmark.csv")
    assert {(row["kind"], row["rate"]) for row in rows} == {("random", 0.008)}
    with open(MULTI30K / "benchmark.csv", newline="") as file:
        lines = [line for line in file if not line.startswith("#")]
    assert [row["genotype"] for row in rows] == [row["genotype"] for row in csv.DictReader(lines)]


@pytest.mark.parametrize(
    "script, arguments, names",
    [
        ("table.py", ["--add"], ["networks.csv", "rates.csv", "benchmark.csv"]),
        ("pairs.py", ["en-de", "8e-3", "--add"], ["three_pairs.csv"]),
    ],
)
def test_files_alone_make_a_table(tmp_path, script, arguments, names):
    files = [MULTI30K / name for name in names]
    kinds = {each["kind"] for path in files for each in network_files.read_networks(path)}
    output = run("python", MULTI30K / script, tmp_path, *arguments, *files)
    assert kinds >= {"found", "transformer"}
    assert all(f"| {kind} | " in output for kind in kinds)
    written = network_files.read_networks(tmp_path / "networks.csv")
    assert {each["kind"] for each in written} == kinds


@pytest.fixture(scope="module")
def rows_of_pairs(tmp_path_factory):
    """The cells of what pairs.py prints of three_pairs.csv: of each row, in its order."""
    command = [MULTI30K / "pairs.py", tmp_path_factory.mktemp("pairs"), "en-de", "8e-3"]
    output = run("python", *command, "--add", MULTI30K / "three_pairs.csv")
    return [cells(line) for line in output.splitlines() if "| en-" in line]


def cells(line):
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_each_genotype_has_a_row_for_each_pair(rows_of_pairs):
    trainings = defaultdict(dict)
    for each in network_files.read_networks(MULTI30K / "three_pairs.csv"):
        if each["rate"] == 0.008:
            key = (each["pair"], each["kind"], each["genotype"])
            trainings[key][str(each["seed"])] = f"{each['bleu']:.2f}"
    expected = [
        (pair, kind, ", ".join(sorted(bleu)), ", ".join(bleu[seed] for seed in sorted(bleu)))
        for (pair, kind, _), bleu in trainings.items()
    ]
    printed = [(*row[:2], row[3], row[4].split(" ", 1)[1].strip("()")) for row in rows_of_pairs]
    assert sorted(printed) == sorted(expected)


def test_the_readmes_have_what_pairs_prints(rows_of_pairs):
    lines = (MULTI30K / "README.md").read_text(encoding="utf-8").replace("**", "").splitlines()
    stated = [tuple(cells(line)[-5:]) for line in lines if re.search(r"\| 1, 2, 3 \| \d", line)]
    printed = [(*row[3:5], row[6].replace("+0.00", ""), *row[7:9]) for row in rows_of_pairs]
    assert sorted(stated) == sorted(printed)
    front = (CHECKOUT / "README.md").read_text(encoding="utf-8").replace("**", "")
    shown = re.findall(r"(?<=\| )\d\d\.\d\d \(\d\.\d{3}\)", front)
    means = [f"{row[4].split()[0]} ({row[8]})" for row in rows_of_pairs if row[1] != "alpha"]
    assert sorted(shown) == sorted(means)


@pytest.mark.parametrize(
    "script, arguments, name, reader",
    [
        ("table.py", ["--add"], "three_pairs.csv", "pairs.py"),
        ("pairs.py", ["en-de", "8e-3", "--add"], "networks.csv", "table.py"),
        ("pairs.py", ["en-de", "8e-3", "--add"], "benchmark.csv", "table.py"),
    ],
)
def test_files_of_the_other_table_are_refused(tmp_path, script, arguments, name, reader):
    output = run("python", MULTI30K / script, tmp_path, *arguments, MULTI30K / name, fails=True)
    assert re.search(
        rf"--add: \S*{name}: its rows name .* pair of languages; {reader} reads", output
    )


def test_files_of_something_else_are_refused(tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("kind,rate,genotype,seed,parameters\nfound,0.008,,1,1000\n")
    output = run("python", MULTI30K / "table.py", tmp_path, "--add", other, fails=True)
    assert f"--add: {other}: no column loss there" in output


@pytest.mark.parametrize("last, loss", [("2.5", 2.5), ("nan", math.inf), ("inf", math.inf)])
def test_a_network_that_diverged_has_no_earlier_loss(monkeypatch, tmp_path, last, loss):
    monkeypatch.syspath_prepend(MULTI30K)
    log, line = (
        tmp_path / "log",
        "epoch 1 | valid on 'valid' subset | loss 4.1 | nll_loss {} | ppl 6\n",
    )
    log.write_text(line.format("2.8") + line.format(last))
    assert load("table").validation_loss(log) == loss


def test_times_are_shares_of_the_transformer(monkeypatch):
    monkeypatch.syspath_prepend(MULTI30K)
    row = load("pairs").row
    common = {
        "pair": "en-de",
        "genotype": "",
        "rate": 8e-3,
        "seed": 1,
        "bleu": 30.0,
        "chrf": 50.0,
        "loss": 2.5,
        "parameters": 10**6,
    }
    speeds = {"transformer": (200, 100.0), "found": (220, 80.0), "interrupted": (0, 80.0)}
    rows = {
        kind: [{**common, "kind": kind, "seconds": seconds, "translated": tokens_per_second}]
        for kind, (seconds, tokens_per_second) in speeds.items()
    }
    rows["elsewhere"] = [{**common, "kind": "elsewhere", "seconds": 100}]
    assert row(rows["found"], rows["transformer"]).endswith(" | 1.10 | 1.25 |")
    for kind in ("interrupted", "elsewhere"):
        assert row(rows[kind], rows["transformer"]).endswith(" | - | - |")
