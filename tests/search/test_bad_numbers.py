"""Numbers that go bad in a search: it ends, or skips an update, and says where they were."""

import json
import math

import pytest
import torch
from running import SEARCH, load, train, train_in_process, weights

from fairseq_revdarts.criterions.reversible_search import ReversibleSearchCriterion
from fairseq_revdarts.genotype import load_genotype
from fairseq_revdarts.search import bilevel

FP16 = ["--fp16", "--fp16-no-flatten-grads", "--backprop=checkpoint"]


def poison(monkeypatch, level, number, value):
    """Multiply loss `number` of "theta" or "alpha" by `value`."""
    forward, seen = ReversibleSearchCriterion.forward, []

    def poisoned(self, model, sample, reduce=True):
        loss, *more = forward(self, model, sample, reduce)
        of_alpha = model.architecture.encoder.requires_grad
        if torch.is_grad_enabled() and of_alpha == (level == "alpha"):
            seen.append(loss)
        if len(seen) == number:
            loss = loss * value
        return (loss, *more)

    monkeypatch.setattr(ReversibleSearchCriterion, "forward", poisoned)


def poison_gradient(monkeypatch, number, value):
    """Put `value` into alpha's gradient `number`, at node decoder.1.2."""
    compute, seen = bilevel.alpha_gradients, []

    def poisoned(*arguments, **more):
        gradients, loss = compute(*arguments, **more)
        seen.append(loss)
        if len(seen) == number:
            gradients[1][0, 1, 3] = value
        return gradients, loss

    monkeypatch.setattr(bilevel, "alpha_gradients", poisoned)


def valid_json(folder):
    """The search's files hold no NaN and no infinity, which are not JSON."""
    load_genotype(str(folder / "genotype.json"))
    return valid_log(folder)


def valid_log(folder):
    """As `valid_json`, but of search.jsonl alone."""

    def refuse(constant):
        raise ValueError(constant)

    lines = (folder / "search.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


@pytest.mark.parametrize("update_freq", [1, 2])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_of_theta_that_is_no_number_ends_the_search(
    data, tmp_path, monkeypatch, caplog, value, update_freq
):
    poison(monkeypatch, "theta", 1 + update_freq, value)
    flags = ["--log-interval=1", f"--update-freq={update_freq}"]
    with pytest.raises(FloatingPointError, match="update 2: theta's gradients are not finite"):
        train_in_process(data, tmp_path, *SEARCH, *flags, updates=3)
    assert f"update 2: theta's loss is {value}" in caplog.text
    assert [entry["update"] for entry in valid_log(tmp_path)] == [1]
    assert all(value.isfinite().all() for value in weights(tmp_path / "crash.pt").values())
    assert not (tmp_path / "genotype.json").exists()  # it is of checkpoints that go on


def test_a_bad_loss_in_the_short_group_at_an_epochs_end(data, tmp_path, monkeypatch):
    """11 pairs in 3 batches: the second update has one."""
    poison(monkeypatch, "theta", 3, math.nan)
    flags = ["--train-subset=valid", "--batch-size=4", "--update-freq=2"]
    with pytest.raises(FloatingPointError, match="update 2: theta's gradients are not finite"):
        train_in_process(data, tmp_path, *SEARCH, *flags, updates=3)


@pytest.mark.parametrize("of_the_loss", [True, False])
def test_numbers_of_alpha_that_are_none_end_the_search(data, tmp_path, monkeypatch, of_the_loss):
    nodes = "encoder.1.1, encoder.1.2, .*" if of_the_loss else "decoder.1.2$"
    if of_the_loss:
        poison(monkeypatch, "alpha", 2, math.nan)
    else:
        poison_gradient(monkeypatch, 2, math.inf)
    flags = ["--log-interval=1", "--save-interval-updates=1"]
    with pytest.raises(RuntimeError, match=f"update 2: alpha's loss .* not finite at {nodes}"):
        train_in_process(data, tmp_path, *SEARCH, *flags, updates=3)
    assert [entry["update"] for entry in valid_json(tmp_path)] == [1]
    assert weights(tmp_path / "checkpoint_last.pt")["architecture.encoder_step"] == 1


def test_an_overflow_of_alpha_in_fp16_is_skipped_and_rescaled(data, tmp_path, monkeypatch, caplog):
    poison_gradient(monkeypatch, 2, math.inf)
    train_in_process(data, tmp_path, *SEARCH, *FP16, "--log-interval=1", updates=4)
    assert "update 2: alpha's loss" in caplog.text and "not finite at decoder.1.2" in caplog.text
    log = valid_json(tmp_path)
    assert [entry["alpha_loss"] is None for entry in log] == [False, True, False, False]
    checkpoint = load(tmp_path / "checkpoint_last.pt")
    assert checkpoint["optimizer_history"][-1]["num_updates"] == 4
    assert checkpoint["last_optimizer_state"]["loss_scale"] == 64
    assert checkpoint["model"]["architecture.encoder_step"] == 3


def test_an_overflow_of_theta_in_fp16_stops_neither(data, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)  # fairseq asks for one here
    poison(monkeypatch, "theta", 2, math.inf)
    train_in_process(data, tmp_path, *SEARCH, *FP16, "--log-interval=1", updates=3)
    assert "update 2: theta's gradients are not finite; fairseq skips it" in caplog.text
    assert [entry["update"] for entry in valid_json(tmp_path)] == [1, 2, 3]
    checkpoint = load(tmp_path / "checkpoint_last.pt")
    assert checkpoint["last_optimizer_state"]["loss_scale"] == 64
    assert checkpoint["model"]["architecture.encoder_step"] == 3


def test_an_overflow_is_noticed_before_a_group_of_another_size(data, tmp_path, monkeypatch, caplog):
    """11 pairs in 6 batches: fairseq skips an update of four, and goes on with one of two."""
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
    poison(monkeypatch, "theta", 4, math.inf)
    flags = ["--train-subset=valid", "--batch-size=2", "--update-freq=4", "--max-epoch=1"]
    flags += ["--alpha-start=8", "--log-interval=1"]
    train_in_process(data, tmp_path, *SEARCH, *FP16, *flags, updates=9)
    assert caplog.text.count("update 1: theta's gradients are not finite; fairseq skips it") == 1
    assert [entry["update"] for entry in valid_json(tmp_path)] == [1]


@pytest.mark.parametrize("level", ["theta", "alpha"])
def test_a_loss_scale_at_its_minimum_ends_the_search(data, tmp_path, monkeypatch, level):
    if level == "theta":
        poison(monkeypatch, "theta", 2, math.inf)
    else:
        poison_gradient(monkeypatch, 2, math.inf)
    error = FloatingPointError if level == "theta" else RuntimeError
    flags = ["--fp16-init-scale=4", "--min-loss-scale=3"]
    ends = f"^update 2: {level}'s .* not finite.*(-loss-scale|Minimum loss)"
    with pytest.raises(error, match=ends):
        train_in_process(data, tmp_path, *SEARCH, *FP16, *flags, updates=4)


def test_a_search_that_explodes_says_where(data, tmp_path):
    """A learning rate that no network survives, as a user finds out."""
    flags = [*SEARCH, "--lr=1e15", "--lr-scheduler=fixed"]
    flags.remove("--warmup-updates=4")
    output = train(data, tmp_path, *flags, updates=5, fails=True)
    assert "NaN detected in output of encoder.stack.layers.0.nodes.0.candidates" in output
    assert output.strip().splitlines()[-1].startswith("RuntimeError: update 1: alpha's loss is nan")
    assert not (tmp_path / "checkpoint_last.pt").exists()


def test_drift_past_its_limit_names_the_update(data, tmp_path):
    with pytest.raises(RuntimeError, match=r"^update 1: the encoder's reconstruction drift is "):
        train_in_process(data, tmp_path, *SEARCH, "--drift-limit=1e-12", updates=2)
