"""Fixtures for tests through fairseq's real commands: a small binarised corpus, a search on it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli.train import main as fairseq_train

CHECKOUT = Path(__file__).parent.parent
PLUGIN = CHECKOUT / "fairseq_revdarts"
BIN = Path(sys.executable).parent

NETWORK = [
    "--arch=revdarts_transformer_tiny",
    "--embed-dim=16",
    "--hidden-size=48",
    "--ffn-embed-dim=32",
    "--share-all-embeddings",
]
TRAINING = [
    f"--user-dir={PLUGIN}",
    "--optimizer=adam",
    "--lr=0.003",
    "--lr-scheduler=inverse_sqrt",
    "--warmup-updates=4",
    "--max-tokens=400",
    "--required-batch-size-multiple=1",
    "--num-workers=0",
    "--log-interval=2",
    "--log-format=json",
    "--disable-validation",
    "--cpu",
]
SEARCH = [
    *NETWORK,
    *TRAINING,
    "--task=bilevel_search",
    "--criterion=reversible_search",
    "--alpha-lr=0.05",
    "--drift-interval=2",
]
TRANSLATION = [
    *TRAINING,
    "--task=translation",
    "--criterion=label_smoothed_cross_entropy",
    "--label-smoothing=0.1",
]
RETRAIN = [*NETWORK, *TRANSLATION]
GENERATE = [f"--user-dir={PLUGIN}", "--required-batch-size-multiple=1", "--max-tokens=400", "--cpu"]
TEST_SENTENCES = 13


def run(*command, fails=False, **more):
    """Run a command; its standard output and error together. It must succeed, or fail."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}
    environment.update(more.pop("env", {}))
    result = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        **more,
    )
    assert (result.returncode != 0) == fails, result.stdout[-5000:]
    return result.stdout


def train(data, folder, *flags, updates, **more):
    return run(
        "fairseq-train", data, f"--save-dir={folder}", f"--max-update={updates}", *flags, **more
    )


def train_in_process(data, folder, *flags, updates):
    """fairseq-train without a process of its own."""
    words = [str(data), f"--save-dir={folder}", f"--max-update={updates}", *flags]
    args = options.parse_args_and_arch(options.get_training_parser(), input_args=words)
    fairseq_train(convert_namespace_to_omegaconf(args))


def load(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def weights(path):
    """Model weights, without a buffer that some fairseq versions leave uninitialised."""
    return {k: v for k, v in load(path)["model"].items() if not k.endswith("_float_tensor")}


def assert_same_weights(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def hypotheses(output, kind="H"):
    """From a sentence's number to its text, of fairseq-generate's lines H (or D, detokenised)."""
    lines = re.findall(rf"^{kind}-(\d+)\t\S+\t(.*)$", output, re.MULTILINE)
    return {int(number): text for number, text in lines}


def read_log(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.fixture(scope="session")
def raw(tmp_path_factory):
    """Raw text of the quick start's corpus, a few hundred pairs of it, and its pieces."""
    folder = tmp_path_factory.mktemp("corpus")
    run(sys.executable, CHECKOUT / "examples/quickstart/corpus.py", folder / "all")
    (folder / "raw").mkdir()
    for split, pairs in (("train", 300), ("valid", 20), ("test", TEST_SENTENCES)):
        for language in ("en", "fr"):
            lines = (folder / f"all/{split}.{language}").read_text().splitlines(keepends=True)
            (folder / f"raw/{split}.{language}").write_text("".join(lines[:pairs]))
    run(
        *(sys.executable, CHECKOUT / "examples/pieces.py", folder / "raw", folder / "pieces"),
        *("--languages", "en", "fr", "--vocabulary", 150),
    )
    return folder


@pytest.fixture(scope="session")
def data(raw):
    """The corpus binarised by fairseq-preprocess."""
    pieces = raw / "pieces"
    run(
        *("fairseq-preprocess", "--source-lang=en", "--target-lang=fr", "--joined-dictionary"),
        f"--trainpref={pieces}/train",
        f"--validpref={pieces}/valid",
        f"--testpref={pieces}/test",
        f"--destdir={raw}/data",
    )
    return raw / "data"


@pytest.fixture(scope="session")
def search(data, tmp_path_factory):
    """The folder of a search of six updates, and what it printed."""
    folder = tmp_path_factory.mktemp("search")
    output = train(data, folder, *SEARCH, updates=6)
    return folder, output


@pytest.fixture(scope="session")
def retrained(data, search, tmp_path_factory):
    """Folder of a network trained from the search's genotype, which is then moved away."""
    folder = tmp_path_factory.mktemp("retrained")
    genotype = folder / "genotype.json"
    run("revdarts-derive", search[0] / "checkpoint_last.pt", "-o", genotype)
    train(data, folder, *RETRAIN, f"--genotype={genotype}", updates=4)
    genotype.rename(folder / "moved.json")
    return folder
