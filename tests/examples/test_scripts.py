"""The examples' helpers: scores, sizes, and stages that stop at the first error."""

import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest
import sacrebleu
import torch
from helpers import TYPICAL, build_model
from running import CHECKOUT, run

from fairseq_revdarts.genotype import random_genotype
from fairseq_revdarts.profiling.measure import Steps
from fairseq_revdarts.profiling.workload import Workload
from fairseq_revdarts.utils.parameters import count_parameters

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


@pytest.mark.parametrize("character", ["\u0085", "\u2028", "\f", "\r"])
def test_a_line_ends_where_the_preprocessing_ends_it(tmp_path, character):
    references = [f"one{character}two three four", "five"]
    assert "BLEU" in score(tmp_path, [(0, "one two three four"), (1, "five")], references)


def test_sentences_that_repeat_themselves_are_counted(tmp_path):
    references = ["a b a b c", "a b c", "a b c a b d"]  # two words in a row may come again
    loops = ["a b a b a b", "a b c", "a a a a"]
    output = score(tmp_path, list(enumerate(loops)), references)
    assert "repeating = 2 of 3 (references: 0)" in output


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


def test_tokenised_bleu_splits_clitics_and_forgets_case(tmp_path):
    references = ["It's what we don't know, he said", "they're 20's \"own\" words and o'clock"]
    hypotheses = ["it's what we didn't know, he said", "They're 20's \"own\" words' and O'Clock"]
    tokens = [
        ["it 's what we don 't know , he said", "they 're 20's \" own \" words and o 'clock"],
        ["it 's what we didn 't know , he said", "they 're 20's \" own \" words' and o 'clock"],
    ]
    expected = sacrebleu.corpus_bleu(tokens[1], [tokens[0]], tokenize="none", force=True)
    flags = ["--clitics", "--lowercase"]
    output = score(tmp_path, list(enumerate(hypotheses)), references, *flags)
    assert f"tokenised BLEU = {expected.score:.2f} (13a, clitics split)" in output
    assert "case:lc" in output and "case:mixed" not in output


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


@pytest.mark.parametrize("later", [False, True])
def test_the_last_checkpoint_counts_if_it_is_later(tmp_path, later):
    """At the end of an epoch, fairseq may write no other."""
    for name, update in (("1_8", 8), ("1_9", 9), ("last", 12 if later else 9)):
        model = {"weight": torch.full((2,), float(update))}
        checkpoint = {"model": model, "optimizer_history": [{"num_updates": update}]}
        torch.save(checkpoint, tmp_path / f"checkpoint_{name}.pt")
    command = [sys.executable, EXAMPLES / "average.py", tmp_path, "--last=5", "-o", "average.pt"]
    output = run(*command, cwd=tmp_path)
    assert f"{tmp_path}: {3 if later else 2} checkpoints there, not 5" in output
    assert ("checkpoint_last.pt" in output) == later
    found = torch.load(tmp_path / "average.pt", weights_only=True)["model"]["weight"]
    assert found[0] == pytest.approx((8 + 9 + 12) / 3 if later else 8.5)


def test_no_checkpoints_to_average_is_an_error(tmp_path):
    command = [sys.executable, EXAMPLES / "average.py", tmp_path, "-o", tmp_path / "average.pt"]
    assert "no checkpoint_EPOCH_UPDATE.pt there" in run(*command, fails=True)


@pytest.mark.parametrize(
    "found", [[(0, "a")], [(0, "a"), (2, "b")], [(0, "a"), (1, "b"), (2, "c")]]
)
def test_a_lost_sentence_is_an_error(tmp_path, found):
    output = score(tmp_path, found, ["a", "b"], fails=True)
    assert f"{len(found)} hypotheses for 2 references" in output


def test_transformer_of_as_many_parameters(data, tmp_path):
    """The flags that size.py prints give fairseq's transformer the size of a checkpoint."""
    genotype = TYPICAL.to_json()
    model = build_model(500, genotype=genotype, hidden_size=240, share_all_embeddings=True)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    torch.save({"model": model.state_dict()}, tmp_path / "checkpoint.pt")
    checkpoint = tmp_path / "checkpoint.pt"
    copies = {name: weight.clone() for name, weight in model.state_dict().items()}
    torch.save({"model": copies}, tmp_path / "from_a_gpu.pt")  # fairseq copies each name for itself
    for path in (checkpoint, tmp_path / "from_a_gpu.pt"):
        counted = run(sys.executable, EXAMPLES / "parameters.py", path)
        assert f"parameters = {parameters:,}" in counted
    command = [sys.executable, EXAMPLES / "size.py", "transformer"]
    rest = [f"--data={data}", "--layers=3"]
    assert "--encoder-layers 3 --encoder-embed-dim" in run(*command, checkpoint, *rest)
    assert run(*command, checkpoint, *rest) == run(*command, parameters, *rest)
    workload = Workload(64, 8, 500, "fp32", "cpu", 1)
    steps = Steps(workload, workload.build_transformer(parameters, layers=3, heads=4))
    steps.theta()  # fairseq 0.12.2 holds copies of its weights that are never trained
    size = sum(weight.numel() for weight in steps.weights if weight.grad is not None)
    assert abs(size - parameters) <= 0.02 * parameters
    assert count_parameters(steps.model.state_dict()) == size


def test_copies_in_encoder_layers_do_not_count():
    counted = ["encoder.layers.0.fc1.weight", "encoder.layers.0.self_attn.in_proj_weight"]
    copies = [f"encoder.layers.12.{name}" for name in ("fc1_weight", "in_proj_bias")]
    weights = {name: torch.zeros(3) for name in counted + copies}
    assert count_parameters(weights) == 6


FINER = random_genotype(random.Random(1), "avg", 1, {"encoder": 4, "decoder": 5})


@pytest.mark.parametrize("genotype", [TYPICAL, FINER, "random:1", "random:4"])
def test_embeddings_as_wide_as_the_network(data, genotype):
    """The widest network of which that is true; what is left widens the embeddings."""
    name = genotype if isinstance(genotype, str) else genotype.to_json().replace(" ", "")

    def width(flag, flags):
        return int(re.search(rf"{flag} (\d+)", flags)[1])

    command = [sys.executable, EXAMPLES / "size.py", name, 300_000, f"--data={data}", "--layers=2"]
    flags = run(*command, "--embed-dim=hidden-size")
    size, embedding = width("--hidden-size", flags), width("--embed-dim", flags)
    assert embedding >= size
    step = 80 if genotype is FINER else 24  # to the next larger network
    wider = run(*command, f"--embed-dim={size + step}")
    assert width("--hidden-size", wider) <= size
    assert "a positive number or hidden-size is needed" in run(
        *command, "--embed-dim=d", fails=True
    )


def test_flags_of_the_architecture_are_those_of_what_it_is_compared_with(data, tmp_path):
    """As far as they are of the search space, and size.py does not choose them."""
    (tmp_path / "data").symlink_to(data)
    found = run_stages(
        tmp_path,
        "architecture='--arch revdarts_transformer --hidden-size 960 --operation-norm post'\n"
        "baseline_layers=2 equal_to=300000 train_updates=1 train_flags= launch=echo\n"
        "baseline random random:1\nbaseline transformer transformer",
    )
    genotype, transformer = (line for line in found.stdout.splitlines() if "--arch" in line)
    assert "--operation-norm post" in genotype and "--operation-norm" not in transformer
    assert "--hidden-size 960" not in genotype.split("--arch revdarts_transformer_tiny")[1]


def run_stages(tmp_path, body):
    script = f"set -euo pipefail\nsource {EXAMPLES}/stages.sh\nwork={tmp_path}\n{body}\n"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True)


TIME = r"\d+ s"


def test_a_stage_stops_at_its_first_error_and_is_taken_up_again(tmp_path):
    broken = "steps() { echo begun; false; echo not reached; }\nstage one 'first stage' steps"
    result = run_stages(tmp_path, broken)
    assert result.returncode != 0
    assert re.fullmatch(rf"first stage \.\.\. stopped after {TIME}\n", result.stdout)
    log = tmp_path / "stages/one.log"
    assert log.read_text() == "begun\n"
    assert result.stderr.startswith("begun\n") and str(log) in result.stderr
    mended = "steps() { echo done; }\nstage one 'first stage' steps\nstage one 'first stage' steps"
    result = run_stages(tmp_path, mended)
    assert result.returncode == 0 and result.stderr == ""
    title = r"first stage \.\.\."
    assert re.fullmatch(rf"{title} {TIME}\n{title} done before\n", result.stdout)
    assert log.read_text() == "begun\ndone\n"
    assert len((tmp_path / "stages/one.seconds").read_text().split()) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stages"]


def test_stages_are_numbered_and_errors_are_in_the_log(tmp_path):
    body = "stages=2\nstage one first echo a\nsteps() { echo b >&2; echo c >&3; }\n"
    result = run_stages(tmp_path, body + "stage two second steps")
    assert re.fullmatch(
        rf"\[1/2\] first \.\.\. {TIME}\n\[2/2\] second \.\.\. {TIME}\n", result.stdout
    )
    assert (tmp_path / "stages/two.log").read_text() == "b\n"
    assert result.stderr == "c\n"  # for the screen


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59, "59 s"), (85, "1 min 25 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds, words):
    script = f"source {EXAMPLES}/duration.sh && duration {seconds}"
    assert run("bash", "-c", script) == f"{words}\n"


def test_ctrl_c_leaves_one_line_and_the_whole_log(tmp_path):
    """What Ctrl-C sends to all processes at work ends a stage, and its last words are logged."""
    command = "import signal, time\ntry: print('begun', flush=True); time.sleep(60)\n"
    command += "except KeyboardInterrupt: print('last words')\nraise SystemExit(130)"
    (tmp_path / "command.py").write_text(command)
    body = f"set -euo pipefail\nsource {EXAMPLES}/stages.sh\nwork={tmp_path}\n"
    body += f"stage one title {sys.executable} {tmp_path}/command.py"
    process = subprocess.Popen(
        ["bash", "-c", body],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Tests that a shell runs in the background inherit that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    log = tmp_path / "stages/one.log"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate()[0]
    assert process.returncode == 130
    assert log.read_text() == "begun\nlast words\n"
    assert re.match(rf"title \.\.\. stopped after {TIME}\nThe whole log is ", output)
    assert not (tmp_path / "stages/one.done").exists()


def installation(tmp_path, fails=False):
    """Install with an interpreter that only writes down what it is asked, or fails for torch."""
    python = tmp_path / "python"
    failure = '[ "${@: -1}" = torch ] && echo no torch for you && exit 1' if fails else ""
    python.write_text(
        f"""#!/bin/bash
if [ "$1 $2" = "-m venv" ]; then
    mkdir -p "$3/bin" && cp {python} "$3/bin/python" && echo >"$3/bin/activate"
fi
{failure}
if [ "$1" != -c ]; then
    echo a warning >&2
    echo "$@" >>{tmp_path}/asked
fi
"""
    )
    python.chmod(0o755)
    environment = {"PYTHON": str(python), "ENVIRONMENT": str(tmp_path / "environment")}
    script = f"set -euo pipefail\nsource {EXAMPLES}/environment.sh examples"
    return run("bash", "-c", script, env=environment, fails=fails)


def test_the_installation_names_its_steps(tmp_path):
    lines = installation(tmp_path).splitlines()
    assert lines[0] == f"Installing into {tmp_path}/environment, once:"
    named = [re.fullmatch(rf"  (.*) \.\.\. {TIME}", line)[1] for line in lines[1:]]
    assert [name.split()[0] for name in named] == ["the", "a", "torch", "fairseq,", "this"]
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 5 and asked[-1].endswith("[examples]")
    assert installation(tmp_path) == ""


def test_an_installation_that_fails_says_why_and_is_tried_again(tmp_path):
    output = installation(tmp_path, fails=True)
    assert "  torch ... failed\n" in output and "no torch for you" in output
    assert output.endswith(f"The whole log is {tmp_path}/environment/install.log\n")
    (tmp_path / "environment/bin/python").unlink()
    assert "  torch ... " in installation(tmp_path)
