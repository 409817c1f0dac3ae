"""The quick start and the scripts of Multi30k, run as they stand, with fewer updates."""

import csv
import itertools
import json
import os
import re
import shutil
import signal
import subprocess

import pytest
from running import CHECKOUT, in_checkout, run


def check_summary(output, work):
    """The stages are numbered to the last one; the summary is in a file too, and complete."""
    stages = re.findall(r"^\[(\d+)/(\d+)\] .* \.\.\. (?:\d+ .*|done before)$", output, re.MULTILINE)
    assert [int(number) for number, _ in stages] == list(range(1, len(stages) + 1))
    assert {int(total) for _, total in stages} == {len(stages)}
    summary = (work / "summary.txt").read_text()
    assert output.endswith(summary)
    row = r"^(the network found|a random genotype|fairseq's transformer) +([\d,]+)(?: +[\d.]+){3}$"
    rows = re.findall(row, summary, re.MULTILINE)
    assert len({name for name, _ in rows}) == len(rows) == 3
    sizes = [int(size.replace(",", "")) for _, size in rows]
    assert max(sizes) < 1.02 * min(sizes)
    assert re.search(r"^Verdict: the network found [^:]*\sBLEU", summary, re.MULTILINE)
    places = summary[summary.index("Where everything is") : summary.index("To translate")]
    for path in places.split()[3:]:
        assert "/" not in path or (CHECKOUT / path).exists(), path
    written = [output, *(path.read_text() for path in (work / "stages").glob("*.log"))]
    assert not any("install tensorboardX" in text for text in written)


@in_checkout
def test_quick_start_continues_where_it_was(tmp_path):
    environment = {"WORK": str(tmp_path), "SEARCH_UPDATES": "1", "TRAIN_UPDATES": "1"}
    script = CHECKOUT / "examples/quickstart/run.sh"
    output = run("bash", script, "de", env=environment, cwd=CHECKOUT, forked=False)
    check_summary(output, tmp_path)
    assert "BLEU nrefs:1" in output and "tok:char" in output  # a German number is one word
    command = output[output.index("\necho ") :]
    assert "\n" not in run("bash", "-c", command, cwd=CHECKOUT).strip()  # one translation
    for stage in ("found", "generate"):
        (tmp_path / f"stages/{stage}.done").unlink()
    again = run("bash", script, "de", env=environment, cwd=CHECKOUT)
    check_summary(again, tmp_path)
    assert again.count("done before") == 6


@pytest.fixture(scope="module")
def multi30k(raw, tmp_path_factory):
    """A folder like Multi30k's, of other text."""
    folder = tmp_path_factory.mktemp("multi30k")
    for name, split in (("train", "train"), ("val", "valid"), ("test_2016_flickr", "test")):
        for language, source in (("en", "en"), ("de", "fr")):
            shutil.copy(raw / f"raw/{split}.{source}", folder / f"{name}.{language}")
    run("gzip", folder / "train.en")
    return folder


SMALL = {"SEARCH_UPDATES": "1", "TRAIN_UPDATES": "1", "VOCABULARY": "150"}


def test_multi30k(multi30k, tmp_path):
    script = CHECKOUT / "examples/multi30k/run.sh"
    environment = {**SMALL, "WORK": str(tmp_path)}
    output = run("bash", script, "--data", multi30k, env=environment, cwd=CHECKOUT)
    check_summary(output, tmp_path)


def test_multi30k_proof(multi30k, tmp_path):
    environment = {**SMALL, "WORK": str(tmp_path), "SEEDS": "1", "SEARCHES": "1 2", "JOBS": "2"}
    environment.update(
        COST_LIMIT="200000",
        PARAMETERS="200000",
        RATES="1e-3 4e-3",
        KINDS="weights families budget transformer",
    )
    script = CHECKOUT / "examples/multi30k/proof.sh"
    output = run("bash", script, "--data", multi30k, env=environment)
    number = r"[\d.]+ \([\d.]+ to [\d.]+\) \| [\d.-]+"  # and its standard deviation
    row = rf"^\| (\w+) \| [12] \| {number} \| {number} \| ([\d,]+) \|"
    rows = re.findall(row, output, re.MULTILINE)
    kinds = {"weights", "families", "budget", "transformer"}
    assert {name for name, _ in rows} == kinds
    for name, parameters in rows:
        near = abs(int(parameters.replace(",", "")) - 200_000) < 0.01 * 200_000
        assert near or name == "weights"  # as large as in the search
    for log in (tmp_path / "stages").glob("weights-*-[12].log"):
        assert "loading pretrained model from" in log.read_text(), log
    for file in ("found-search-1/genotype.json", "networks.svg", "agreement.svg"):
        assert (tmp_path / file).exists(), file
    summary = (tmp_path / "summary.txt").read_text()
    assert "validation loss, bits per token" in summary
    rates = re.findall(r"^\| (\w+) \| (\d+\.\d+) \| (\d+\.\d+) \|$", summary, re.MULTILINE)
    assert {kind for kind, *_ in rates} == kinds
    assert re.search(r"^\| found \| 2 \| \d+ \|$", summary, re.MULTILINE)  # cost of searches
    with open(tmp_path / "networks.csv", newline="") as file:
        networks = list(csv.DictReader(file))
    assert len(networks) == 6
    best = {kind: 1e-3 if float(low) <= float(high) else 4e-3 for kind, low, high in rates}
    for network in networks:
        assert ",".join(network) == "kind,rate,genotype,seed,parameters,loss,bleu,seconds"
        assert float(network["rate"]) == best[network["kind"]]
        assert float(network["loss"]) > 0
        if network["kind"] == "transformer":
            assert network["genotype"] == ""
        else:
            assert json.loads(network["genotype"])["format"] == "revdarts-genotype"
    assert {network["kind"] for network in networks} == kinds


@in_checkout
def test_multi30k_proof_stops_with_all_that_it_started(multi30k, tmp_path):
    environment = {**os.environ, **SMALL, "SEARCH_UPDATES": "10000", "WORK": str(tmp_path)}
    environment["KINDS"] = "found"
    script = CHECKOUT / "examples/multi30k/proof.sh"
    process = subprocess.Popen(
        ["bash", script, "--data", multi30k],
        env={**environment, "JOBS": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert any("found-1: search for found" in line for line in process.stdout)
        assert children(tmp_path)
        process.send_signal(signal.SIGTERM)  # as Ctrl-C, which a test in the background cannot send
        assert process.wait(60) == 130
        process.stdout.read()  # ends when no process can write to it any more
        assert not children(tmp_path)
    finally:
        subprocess.run(["pkill", "-f", str(tmp_path)], check=False)


def children(folder):
    """The processes whose command line names `folder`."""
    return subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True).stdout


def test_multi30k_says_where_the_files_are(tmp_path):
    script = CHECKOUT / "examples/multi30k/run.sh"
    output = run("bash", script, "--data", tmp_path, fails=True)
    assert "no train.en or train.en.gz there" in output and "multi30k/dataset" in output
    assert "--dat: no such option" in run("bash", script, "--dat", "x", fails=True)


@in_checkout
def test_multi30k_benchmark_adds_each_network_once(multi30k, tmp_path):
    table = tmp_path / "table.csv"
    environment = {**SMALL, "WORK": str(tmp_path / "work"), "TABLE": str(table), "SEEDS": "1"}
    environment.update(PARAMETERS="200000", GENOTYPES="7", DROPOUT="0.3")
    command = ["bash", CHECKOUT / "examples/multi30k/benchmark.sh", "--data", multi30k]
    run(*command, env=environment, forked=False)  # it measures the time of its own processes
    lines = table.read_text().splitlines()
    assert lines[0].startswith("# Multi30k en-de") and "torch" in lines[1]
    log = (tmp_path / "work/stages/random7-1.log").read_text()
    assert "dropout 0.3," in lines[0] and "'dropout': 0.3," in log
    assert lines[2] == "genotype,seed,parameters,loss,bleu,seconds" and len(lines) == 4
    assert int(lines[3].split(",")[-1]) > 0
    run(*command, env=environment)
    assert table.read_text().splitlines() == lines
    for other in ({"LEARNING_RATE": "1e-3"}, {"DROPOUT": "0.2"}):
        output = run(*command, env={**environment, **other}, fails=True)
        assert "its regime is another one" in output and table.read_text().splitlines() == lines


def loss_of(work, kind, rate):
    """The validation loss of a network that is trained on en-de."""
    log = (work / f"en-de/stages/{kind}-{rate}-1.log").read_text()
    return float(re.findall(r"valid on .* nll_loss[ =]([\d.]+)", log)[-1])


def check_that_networks_of_another_machine_are_added(work, networks):
    elsewhere = work / "elsewhere.csv"
    others = [{**each, "seed": "2", "bleu": float(each["bleu"]) + 1} for each in networks]
    with open(elsewhere, "w", newline="") as file:
        writer = csv.DictWriter(file, networks[0])
        writer.writeheader()
        writer.writerows(networks + others)
    command = [CHECKOUT / "examples/multi30k/pairs.py", work, "en-de", "1e-3", "4e-3"]
    output = run("python", *command, "--add", elsewhere)
    row = r"^\| en-\w+ \| \w+ \| 0\.00[14] \| 1, 2 \| [\d.]+ \([\d.]+, [\d.]+\) \| 0\.71 \|.* \|$"
    assert len(re.findall(row, output, re.MULTILINE)) == len(networks)
    with open(work / "networks.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 2 * len(networks)


def test_multi30k_three_pairs(multi30k, tmp_path):
    for name in ("train", "val", "test_2016_flickr"):
        shutil.copy(multi30k / f"{name}.de", multi30k / f"{name}.cs")
    environment = {**SMALL, "WORK": str(tmp_path), "SEEDS": "1", "JOBS": "2"}
    environment.update(PARAMETERS="200000", TARGETS="de cs", KINDS="transformer found")
    environment["RATES"] = "1e-3 4e-3"
    command = ["bash", CHECKOUT / "examples/multi30k/three_pairs.sh", "--data", multi30k]
    output = run(*command, env=environment)
    row = r"^\| (en-\w+) \| (\w+) \| 0\.00[14] \| 1 \| ([\d.]+) \([\d.]+\) \| - \| ([+-][\d.]+)"
    row += r" \| [\d.]+ \|"
    rows = {(pair, kind): numbers for pair, kind, *numbers in re.findall(row, output, re.MULTILINE)}
    assert set(rows) == set(itertools.product(("en-de", "en-cs"), ("transformer", "found")))
    for (pair, _), (bleu, lead) in rows.items():
        assert float(lead) == pytest.approx(float(bleu) - float(rows[pair, "transformer"][0]))
    assert "nrefs:1" in output
    assert (tmp_path / "summary.txt").read_text() in output
    with open(tmp_path / "networks.csv", newline="") as file:
        networks = list(csv.DictReader(file))
    assert {(each["pair"], each["kind"]) for each in networks} == set(rows)
    assert all(float(each["chrf"]) >= 0 for each in networks)
    chosen = {(each["kind"], float(each["rate"])) for each in networks}
    assert len(chosen) == 2  # one for each kind, on all pairs
    for kind, rate in chosen:
        losses = {float(tried): loss_of(tmp_path, kind, tried) for tried in ("1e-3", "4e-3")}
        assert losses[rate] == min(losses.values())
    assert (tmp_path / "networks.svg").exists()
    check_that_networks_of_another_machine_are_added(tmp_path, networks)
    unknown = run(*command, env={**environment, "KINDS": "foul"}, fails=True)
    assert "foul is none of transformer, found" in unknown
    other = run(*command, env={**environment, "FOUND": "random:9"}, fails=True)
    assert "found: random:9" in other and "name another folder" in other
    assert "a variable" in run(*command, "--target", "fr", fails=True)
