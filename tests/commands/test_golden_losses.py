"""Golden losses: a change that is not meant to change results leaves these numbers as they are.

Twenty updates of a search and of a retraining, with every kind of dropout. To accept new numbers on
purpose: GOLDEN_LOSSES=write python -m pytest tests/commands/test_golden_losses.py
"""

import json
import os
import re
import sys

import pytest
import torch
from running import CHECKOUT, RETRAIN, SEARCH, read_log, run, train

from fairseq_revdarts.models.revdarts_transformer.config import OPERATION_NORMS

GOLDEN = CHECKOUT / "tests/golden_losses.json"
#: Bits per token. Other threads and processors without vector instructions differ by less than
#: 5e-5, another dropout mask by up to 7e-2, and convolutions initialised 1 % larger by 1.3e-3.
OF_SEARCH_LOG, OF_LOG_OF_THREE_DIGITS = 3e-4, 1.1e-3
FLAGS = [
    *("--dropout=0.1", "--attention-dropout=0.1", "--activation-dropout=0.1"),
    *("--log-interval=1", "--no-save"),
]


@pytest.fixture(scope="module")
def words(raw, tmp_path_factory):
    """The corpus binarised by words: no version of sentencepiece changes it."""
    folder = tmp_path_factory.mktemp("words")
    run(
        *("fairseq-preprocess", "--source-lang=en", "--target-lang=fr", "--joined-dictionary"),
        *(f"--trainpref={raw}/raw/train", f"--validpref={raw}/raw/valid", f"--destdir={folder}"),
    )
    return folder


def losses_of_a_search(data, folder, norm):
    train(data, folder, *SEARCH, *FLAGS, norm, updates=20)
    return [
        entry[name]
        for name in ("loss", "alpha_loss")
        for entry in read_log(folder / "search.jsonl")
    ]


def losses_of_a_training(data, folder, norm):
    output = train(data, folder, *RETRAIN, "--genotype=random:1", *FLAGS, norm, updates=20)
    return [float(loss) for loss in re.findall(r'\{"epoch": .*?"loss": "([\d.]+)"', output)]


@pytest.mark.parametrize("norm", OPERATION_NORMS)
@pytest.mark.parametrize(
    ("losses_of", "tolerance"),
    [(losses_of_a_search, OF_SEARCH_LOG), (losses_of_a_training, OF_LOG_OF_THREE_DIGITS)],
)
@pytest.mark.skipif(torch.__version__ < "2.6", reason="another torch draws other dropout masks")
def test_losses_are_the_golden_ones(words, tmp_path, losses_of, tolerance, norm):
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    # fairseq 0.12.2 makes up other batches than fairseq-fixed.
    fairseq = "fairseq-fixed" if sys.version_info >= (3, 11) else "fairseq 0.12.2"
    losses = losses_of(words, tmp_path, f"--operation-norm={norm}")
    name = f"{losses_of.__name__}, {norm}-norm, {fairseq}"
    if os.environ.get("GOLDEN_LOSSES") == "write":
        golden[name] = [round(loss, 4) for loss in losses]
        GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
    assert len(losses) == len(golden[name])
    assert losses == pytest.approx(golden[name], rel=0, abs=tolerance)
