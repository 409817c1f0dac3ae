"""Running fairseq's real commands in tests: flags, processes, and reading what they write."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import forking
import pytest
import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli.train import main as fairseq_train
from forking import BIN

CHECKOUT = Path(__file__).parent.parent
PLUGIN = CHECKOUT / "fairseq_revdarts"

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
    "--data-buffer-size=0",  # its daemon thread can abort a command that ends (stages.sh)
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
    "--search-strategy=darts",
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
GENERATE = [
    *(f"--user-dir={PLUGIN}", "--required-batch-size-multiple=1", "--max-tokens=400", "--cpu"),
    "--num-workers=0",  # a worker of a command within this process is waited for, 5 s
]
TEST_SENTENCES = 13

#: Before 2.6, torch loads whole pickles for fairseq; the plugin asks for weights only.
weights_only = pytest.mark.skipif(torch.__version__ < "2.6", reason="fairseq loads pickles")


def run(*command, fails=False, forked=True, **more):
    """Run a command; its standard output and error together. It must succeed, or fail.

    Commands that take long to import are forked from a process that has done so (forking/), also
    those of scripts; else they are as a user has them.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}
    if forked:
        environment.update(forking.environment())
    environment.update(more.pop("env", {}))
    name, *words = command
    name = "python" if name == sys.executable else name
    result = subprocess.run(
        [str(word) for word in (name, *words)],
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


def in_process(monkeypatch, command, *words):
    """Another of fairseq's commands, its cli_main, without a process of its own."""
    monkeypatch.setattr(sys, "argv", [str(word) for word in ("command", *words)])
    command()


def load(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def save_without_flag(flag, path, older):
    """Write the checkpoint `path` to `older` as one from before there was the model's `flag`."""
    checkpoint = load(path)
    model = checkpoint["cfg"]["model"]  # of fairseq 0.12.2 a Namespace
    del (model if isinstance(model, dict) else vars(model))[flag]
    torch.save(checkpoint, older)


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


in_checkout = pytest.mark.skipif(
    CHECKOUT / ".venv" not in Path(sys.executable).parents,
    reason="the scripts use the environment of tests/run.sh",
)

TINY = "--arch revdarts_transformer_tiny --embed-dim 16 --hidden-size 48 --ffn-embed-dim 32"
#: For the scripts of wmt14/ and iwslt14/: two updates of everything, on the CPU.
SHORT_EXPERIMENT = {
    "VOCABULARY": "150",
    "SEARCH_UPDATES": "2",
    "TRAIN_UPDATES": "2",
    "SAVE_INTERVAL": "1",
    "MAX_TOKENS": "400",
    "GPUS": "1",
    "ARCHITECTURE": TINY,
    "FLAGS": "--cpu --update-freq 1 --num-workers 0 --disable-validation --log-interval 1",
}
