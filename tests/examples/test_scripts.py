"""The examples' helpers: scores, sizes, and stages that stop at the first error."""

import re
import subprocess
import sys

import pytest
import sacrebleu
import torch
from helpers import TYPICAL, build_model
from running import CHECKOUT, run

from fairseq_revdarts.profiling.measure import Steps, Workload

EXAMPLES = CHECKOUT / "examples"


def score(tmp_path, hypotheses, references, *flags, **more):
    lines = [f"S-{n}\tsource\nH-{n}\t-1\tpieces\nD-{n}\t-0.5\t{h}\n" for n, h in hypotheses]
    (tmp_path / "generated").write_text("".join(lines))
    (tmp_path / "references").write_text("".join(f"{line}\n" for line in references))
    return run(
        *(sys.executable, EXAMPLES / "score.py", tmp_path / "generated"),
        *(tmp_path / "references", *flags),
        **more,
    )


def test_scores_are_in_the_references_order(tmp_path):
    references = ["eins und zwei und drei", "vier und fünf und sechs", "sieben"]
    output = score(tmp_path, [(2, "sieben"), (0, references[0]), (1, "vier")], references)
    assert "exact = 2 of 3 (66.7 %)" in output
    assert re.search(r"BLEU = \d+\.\d+ .*\n    signature: nrefs:1.*tok:13a", output)
    perfect = score(tmp_path, list(enumerate(references)), references, "--tokenize=char")
    assert "BLEU = 100.00" in perfect and "tok:char" in perfect


def test_tokenised_bleu_splits_compounds(tmp_path):
    references = ["die grün-blaue Wand, sagt er", "ein Links-Rechts-Schalter hier - und dort"]
    hypotheses = ["die grün-rote Wand, sagt er", "ein Links-Rechts-Taster hier - und dort"]
    tokenised = [
        [line.replace(",", " ,").replace("-", " ##AT##-##AT## ") for line in lines]
        for lines in (hypotheses, references)
    ]
    # A dash between spaces is no compound.
    tokenised = [[t.replace("  ##AT##-##AT##  ", " - ") for t in lines] for lines in tokenised]
    expected = sacrebleu.corpus_bleu(tokenised[0], [tokenised[1]], tokenize="none", force=True)
    output = score(tmp_path, list(enumerate(hypotheses)), references, "--compounds")
    assert f"tokenised BLEU = {expected.score:.2f} (13a" in output


def test_average_of_the_last_checkpoints(tmp_path):
    for update in (8, 9, 10):
        model = {"weight": torch.full((2,), float(update)), "count": torch.tensor(update)}
        checkpoint = {"model": model, "cfg": update, "last_optimizer_state": {}}
        torch.save(checkpoint, tmp_path / f"checkpoint_1_{update}.pt")
    torch.save({}, tmp_path / "checkpoint_best.pt")
    average = tmp_path / "average.pt"
    output = run(sys.executable, EXAMPLES / "average.py", tmp_path, "--last=2", "-o", average)
    assert "checkpoint_1_9.pt, checkpoint_1_10.pt" in output
    found = torch.load(average, weights_only=True)
    assert found["model"]["weight"].tolist() == [9.5, 9.5] and found["model"]["count"] == 10
    assert found["cfg"] == 10 and "last_optimizer_state" not in found


def test_no_checkpoints_to_average_is_an_error(tmp_path):
    command = [sys.executable, EXAMPLES / "average.py", tmp_path, "-o", tmp_path / "average.pt"]
    assert "no checkpoint_EPOCH_UPDATE.pt there" in run(*command, fails=True)


@pytest.mark.parametrize(
    "found", [[(0, "a")], [(0, "a"), (2, "b")], [(0, "a"), (1, "b"), (2, "c")]]
)
def test_a_lost_sentence_is_an_error(tmp_path, found):
    output = score(tmp_path, found, ["a", "b"], fails=True)
    assert f"{len(found)} hypotheses for 2 references" in output


def test_transformer_of_as_many_parameters(tmp_path):
    """The flags that parameters.py prints give fairseq's transformer that size."""
    genotype = TYPICAL.to_json()
    model = build_model(500, genotype=genotype, hidden_size=240, share_all_embeddings=True)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    torch.save({"model": model.state_dict()}, tmp_path / "checkpoint.pt")
    command = [sys.executable, EXAMPLES / "parameters.py", tmp_path / "checkpoint.pt"]
    assert f"parameters = {parameters:,}" in run(*command)
    assert "--encoder-layers 3 --encoder-embed-dim" in run(*command, "--transformer-layers=3")
    workload = Workload(64, 8, 500, "fp32", "cpu", 1)
    steps = Steps(workload, workload.build_transformer(parameters, layers=3))
    steps.theta()  # fairseq 0.12.2 holds copies of its weights that are never trained
    size = sum(weight.numel() for weight in steps.weights if weight.grad is not None)
    assert abs(size - parameters) <= 0.02 * parameters


def run_stages(tmp_path, body):
    script = f"set -euo pipefail\nsource {EXAMPLES}/stages.sh\nwork={tmp_path}\n{body}\n"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True)


def test_a_stage_stops_at_its_first_error_and_is_taken_up_again(tmp_path):
    broken = "steps() { echo begun; false; echo not reached; }\nstage one 'first stage' steps"
    result = run_stages(tmp_path, broken)
    assert result.returncode != 0
    assert "stopped in 'first stage'" in result.stderr
    assert (tmp_path / "one.log").read_text() == "begun\n"
    mended = "steps() { echo done; }\nstage one 'first stage' steps\nstage one 'first stage' steps"
    result = run_stages(tmp_path, mended)
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout == "== first stage\n== first stage: done before\n"
    assert (tmp_path / "one.log").read_text() == "begun\ndone\n"


def test_stages_show_the_progress_of_training(tmp_path):
    line = "2026-01-01 | INFO | train_inner | epoch 001: 1 / 2 loss=3"
    result = run_stages(tmp_path, f"stage one title echo '{line}'")
    assert line in result.stdout
