"""The quick start and the scripts of Multi30k, run as they stand, with fewer updates."""

import os
import re
import shutil
import signal
import subprocess

import pytest
from running import CHECKOUT, in_checkout, run


def scores(output):
    assert output.count("BLEU = ") == output.count("exact = ") == 2
    assert output.count("parameters = ") == 2 and "revdarts-genotype" in output
    assert "signature: nrefs:1" in output
    assert "picture written to" in output


@in_checkout
def test_quick_start_goes_on_where_it_was(tmp_path):
    environment = {"WORK": str(tmp_path), "SEARCH_UPDATES": "1", "TRAIN_UPDATES": "1"}
    script = CHECKOUT / "examples/quickstart/run.sh"
    output = run("bash", script, "de", env=environment)
    scores(output)
    assert "tok:char" in output  # a German number is one word
    (tmp_path / "retrain.done").unlink()
    (tmp_path / "generate.done").unlink()
    again = run("bash", script, "de", env=environment)
    scores(again)
    assert again.count("done before") == 7


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


@in_checkout
def test_multi30k(multi30k, tmp_path):
    script = CHECKOUT / "examples/multi30k/run.sh"
    output = run("bash", script, "--data", multi30k, env={**SMALL, "WORK": str(tmp_path)})
    scores(output)


@in_checkout
def test_multi30k_proof(multi30k, tmp_path):
    environment = {**SMALL, "WORK": str(tmp_path), "SEEDS": "1", "RANDOM_GENOTYPES": "2"}
    environment.update(PARAMETERS="200000", JOBS="2")
    script = CHECKOUT / "examples/multi30k/proof.sh"
    output = run("bash", script, "--data", multi30k, env=environment)
    row = r"^\| (\w+) \| 1 \| [\d.]+ \| - \| [\d., ]+ \| [\d.]+ \| ([\d,]+) \|"
    rows = re.findall(row, output, re.MULTILINE)
    assert {name for name, _ in rows} == {
        *("transformer", "random", "sampling"),
        *("found", "families", "pooled", "untrained"),
    }
    for _, parameters in rows:
        assert abs(int(parameters.replace(",", "")) - 200_000) < 0.01 * 200_000
    assert (tmp_path / "found-search-1/genotype.json").exists()


@in_checkout
def test_multi30k_proof_stops_with_all_that_it_started(multi30k, tmp_path):
    environment = {**os.environ, **SMALL, "SEARCH_UPDATES": "10000", "WORK": str(tmp_path)}
    script = CHECKOUT / "examples/multi30k/proof.sh"
    process = subprocess.Popen(
        ["bash", script, "--data", multi30k],
        env={**environment, "JOBS": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert any("transformer-1: == transformer-1: train" in line for line in process.stdout)
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
