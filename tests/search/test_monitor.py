"""What a search reports while it runs, and the end of a stable search."""

import logging
import math
import re
from typing import ClassVar

import pytest
from fairseq.logging import metrics, progress_bar
from helpers import build_model
from running import SEARCH, load, read_log, train, train_in_process, weights

from fairseq_revdarts.search.level_loss import LevelLoss
from fairseq_revdarts.search.monitor import SearchMonitor
from fairseq_revdarts.search_space import CANDIDATES

KEPT = {"alpha_loss", "alpha_entropy", "parameter_free", "stable_updates", "drift", "living"}
REPORTED = KEPT | {"alpha_nll_loss", "alpha_ppl"}
LOSS = LevelLoss(8 * math.log(2), 4)
FP16 = ["--fp16", "--fp16-no-flatten-grads", "--backprop=checkpoint"]


def favour(architecture, operation, nodes):
    """Let `operation` lead in the first `nodes` nodes, and ffn in the others."""
    for side, alpha in zip(CANDIDATES, architecture.alphas()):
        for number, row in enumerate(alpha.data.flatten(0, 1)):
            leads = operation if number + (len(alpha) * 2) * (side == "decoder") < nodes else "ffn"
            row.zero_()[CANDIDATES[side].index(leads)] = 2.0


# ------------------------------------------------------------------------------- reports


class Recorder:
    """In the place of TensorBoard's writer and of the module wandb."""

    numbers: ClassVar = {}

    def __init__(self, folder="wandb"):
        self.folder = folder

    def add_text(self, *_):
        pass

    flush = add_text

    def add_scalar(self, name, value, step):
        self.numbers[self.folder.split("/")[-1], name, step] = value

    def init(self, **_):
        self.config = {}

    def log(self, numbers, step):
        for name, value in numbers.items():
            self.add_scalar(name, value, step)


def test_log_tensorboard_wandb_and_search_jsonl_get_the_same(data, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress_bar, "SummaryWriter", Recorder)
    monkeypatch.setattr(progress_bar, "wandb", Recorder())
    monkeypatch.setattr(progress_bar, "_tensorboard_writers", {})
    boards = [f"--tensorboard-logdir={tmp_path}/tb", "--wandb-project=search"]
    train_in_process(data, tmp_path, *SEARCH, *boards, "--log-interval=1", updates=2)
    for entry in read_log(tmp_path / "search.jsonl"):
        for name in KEPT:
            for of_board in (("train_inner", name), ("wandb", f"train_inner/{name}")):
                number = Recorder.numbers[(*of_board, entry["update"])]
                assert float(number) == pytest.approx(entry[name], abs=6e-4), of_board
    assert all(f'"{name}"' in caplog.text for name in REPORTED)


def test_alphas_loss_is_reported_with_and_without_label_smoothing():
    """In bits: that which is minimised, per token; the other, and the perplexity of it."""
    monitor = SearchMonitor(build_model(), 0, 1.0, 1)
    with metrics.aggregate("losses", new_root=True) as numbers:
        monitor.report(1, LOSS, LevelLoss(12 * math.log(2), 4, 10 * math.log(2), 5))
    values = numbers.get_smoothed_values()
    assert (values["alpha_loss"], values["alpha_nll_loss"], values["alpha_ppl"]) == (3, 2, 4)


@pytest.mark.parametrize("log_format", ["simple", "json"])
def test_the_numbers_of_a_search_come_last_and_rounded(data, search, tmp_path, log_format):
    output = search[1]  # in JSON
    if log_format == "simple":
        flags = [flag for flag in SEARCH if not flag.startswith("--log-format")]
        output = train(data, tmp_path, *flags, "--log-format=simple", updates=2)
    lines = re.findall(r"^.* \| (?:train_inner|train) \| .*$", output, re.MULTILINE)
    assert len(lines) > 1
    for line in lines:
        numbers = re.findall(r"(\w+)(?:\": |[= ])\"?([-+.e\d]+)", line)
        assert numbers.pop()[0].endswith("wall"), line  # fairseq appends the time
        names = [re.sub("^train_", "", name) for name, _ in numbers]
        assert set(names[-8:]) == REPORTED and not REPORTED & set(names[:-8]), line
        for name, number in numbers[-8:]:
            digits = number.split("e")[0].replace(".", "")
            most = {"drift": 2, "ppl": 6}.get(name.split("_")[-1], 4)  # ppl as fairseq's
            assert len(digits) <= most, line
        # JSON is not read on a terminal: its columns count from the brace.
        columns = line[max(line.find("{"), 0) :][:100]
        assert re.search(r"num_updates\W+\d+\W+(train_)?loss\W+\d\.\d", columns), line


@pytest.mark.parametrize("operation", ["zero", "identity"])
@pytest.mark.parametrize(("nodes", "warns"), [(0, False), (4, False), (5, True), (8, True)])
def test_a_collapse_is_warned_of_once(tmp_path, caplog, operation, nodes, warns):
    model = build_model()
    favour(model.architecture, operation, nodes)
    assert model.architecture.parameter_free_share() == nodes / 8
    monitor = SearchMonitor(model, drift_interval=0, drift_limit=1.0, log_interval=1)
    monitor.open_log(str(tmp_path / "search.jsonl"), 0)
    for update in (1, 2):
        with metrics.aggregate("collapse", new_root=True) as numbers:
            monitor.report(update, LOSS, LOSS)
        assert numbers.get_smoothed_values()["parameter_free"] == nodes / 8
    assert [entry["parameter_free"] for entry in read_log(tmp_path / "search.jsonl")] == [
        nodes / 8
    ] * 2
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == warns
    for warning in warnings:
        assert "update 1" in warning and "revdarts-derive --exclude zero,identity" in warning


def test_nothing_is_warned_of_before_alpha_moves_or_by_other_processes(tmp_path, caplog):
    model = build_model()
    favour(model.architecture, "zero", 8)
    monitor = SearchMonitor(model, 0, 1.0, 1)
    monitor.report(1, LOSS, LOSS)
    monitor.open_log(str(tmp_path / "search.jsonl"), 0)
    monitor.report(2, LOSS)
    assert not caplog.records
    (entry,) = read_log(tmp_path / "search.jsonl")
    assert entry["alpha_loss"] is None and entry["drift"] is None


def test_a_loss_that_is_no_number_is_null_in_the_log(tmp_path):
    monitor = SearchMonitor(build_model(), 0, 1.0, 1)
    monitor.open_log(str(tmp_path / "search.jsonl"), 0)
    monitor.report(1, LevelLoss(math.nan, 4), LOSS)
    (entry,) = read_log(tmp_path / "search.jsonl")
    assert entry["loss"] is None and entry["alpha_loss"] == 2.0


def test_updates_since_the_genotype_last_changed_are_counted():
    architecture = build_model().architecture
    favour(architecture, "zero", 3)
    counts = []
    for operation in ("zero", "zero", "identity", "identity", "identity"):
        before = architecture.winners()
        favour(architecture, operation, 3)
        architecture.count_stable(before)
        counts.append(int(architecture.stable_updates))
    assert counts == [1, 2, 0, 1, 2]


@pytest.mark.parametrize("leads", [True, False])
def test_the_count_begins_again_when_the_leading_candidate_is_eliminated(leads):
    architecture = build_model().architecture
    favour(architecture, "zero", 8)
    architecture.stable_updates.fill_(5)
    candidate = CANDIDATES["decoder"].index("zero" if leads else "ffn")
    architecture.eliminate("decoder", 0, 1, candidate)
    assert architecture.stable_updates == (0 if leads else 5)


def test_a_checkpoint_from_before_the_count_is_restored():
    model = build_model()
    state = model.state_dict()
    model.architecture.stable_updates.fill_(5)
    del state["architecture.stable_updates"]
    model.load_state_dict(state)
    assert model.architecture.stable_updates == 0


# ------------------------------------------------------------------------------- the end


def test_a_stable_search_ends_and_is_not_silently_taken_up_again(data, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    flags = [*SEARCH, "--alpha-lr=1e-9", "--alpha-start=1"]
    train_in_process(data, tmp_path, *flags, "--stop-when-stable=3", updates=9)
    ended = "the genotype has been stable for 3 updates, --stop-when-stable is 3"
    assert ended in caplog.text

    def state():
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    def updates():
        return load(tmp_path / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"]

    assert updates() == 4  # before --alpha-start nothing counts
    before = state()
    caplog.clear()
    train_in_process(data, tmp_path, *flags, "--stop-when-stable=3", updates=9)
    assert ended in caplog.text and state() == before
    train_in_process(data, tmp_path, *flags, "--stop-when-stable=5", updates=9)
    assert updates() == 6
    train_in_process(data, tmp_path, *flags, updates=7)
    assert updates() == 7
    assert weights(tmp_path / "checkpoint_last.pt")["architecture.stable_updates"] == 6
