"""revdarts-profile: its rows, its errors, and what it shows of the memory."""

import json
import math
import re
import sys

import pytest
from helpers import TYPICAL, build_model
from running import run

from fairseq_revdarts.cli import profile
from fairseq_revdarts.profiling import compare
from fairseq_revdarts.profiling.schedule import MOMENTS, schedule_of
from fairseq_revdarts.profiling.workload import Workload
from fairseq_revdarts.search.config import BilevelSearchConfig
from fairseq_revdarts.search.strategies import BY_NAME

SMALL = [
    *("--hidden-size=48", "--embed-dim=16", "--attention-heads=2", "--tokens=60", "--length=6"),
    *("--vocabulary=60", "--runs=1", "--cell-layers=1"),
]
SEARCH_ROWS = [
    "reconstruct",
    "checkpoint",
    "store",
    "checkpoint, all gradients",
    "store, all gradients",
]


RESIDENT = 12_300_000


@pytest.fixture(autouse=True)
def without_more_processes(monkeypatch):
    """test_resident.py measures them."""
    monkeypatch.setattr(compare, "resident_peak", lambda workload, build: RESIDENT)


def results(tmp_path, *arguments):
    profile.main([*SMALL, *arguments, f"--json={tmp_path / 'profile.json'}"])
    content = json.loads((tmp_path / "profile.json").read_text())
    assert "torch" in content["machine"]
    return content["results"]


def test_supernet(tmp_path, capsys):
    swept = results(tmp_path, "--sweep=layers", "--values=2,6", "--memory=0.004")
    assert [result["settings"]["layers"] for result in swept] == [2, 6]
    for result in swept:
        assert [row["network"] for row in result["rows"]] == SEARCH_ROWS
        assert all(0 < drift < 1e-4 for drift in result["rows"][0]["drift"])
        for row in result["rows"]:
            assert row["theta"]["gradients"] > 0 and len(row["pair_seconds"]) == 1
            # plain DARTS takes weight gradients in alpha's step too
            assert (row["alpha"]["gradients"] > 0) == ("all" in row["network"])
    shallow, deep = ([row["theta"]["activations"] for row in r["rows"]] for r in swept)
    assert deep[0] <= 1.05 * shallow[0]  # reconstruct: flat in depth
    later = [result["rows"][0]["theta"]["later_activations"] for result in swept]
    assert later[1] <= 1.05 * later[0]
    assert deep[2] > 2.5 * shallow[2]  # store: in proportion
    output = capsys.readouterr().out
    assert "top MB" in output and output.count(" 12.3 ") == 2 * len(SEARCH_ROWS)
    assert "largest layers of those swept that fits 0.004 GB" in output
    drifts = re.findall("reconstruction drift: encoder (.*), decoder (.*)", output)
    assert drifts == [tuple(f"{one:.1e}" for one in r["rows"][0]["drift"]) for r in swept]


def test_a_search_by_a_strategy_is_measured_over_its_schedule(tmp_path):
    (result,) = results(tmp_path, "--search-strategy=elimination", "--layers=2")
    rows = {row["network"]: row for row in result["rows"]}
    ours = [f"{mode}, elimination" for mode in ("reconstruct", "store")]
    assert list(rows) == [*SEARCH_ROWS, *ours]
    for level in ("theta", "alpha"):  # 4 of 13 or 14 candidates
        share = (
            rows["store, elimination"][level]["activations"] / rows["store"][level]["activations"]
        )
        assert 0.2 < share < 0.5
    assert all(len(rows[name]["pair_seconds"]) == 1 for name in ours)


@pytest.mark.parametrize("strategy", ["darts", "sampling", "elimination", "evolution"])
def test_a_schedule_is_what_the_strategy_asks_for(strategy):
    model = build_model()
    schedule = schedule_of(strategy, model, seed=1)
    rule = BY_NAME[strategy](model, BilevelSearchConfig(max_update=MOMENTS))
    for update, moment in enumerate(schedule, 1):
        for row in moment.theta.get("encoder", model.architecture.living("encoder")):
            expected = {"darts": {13}, "sampling": {1}, "evolution": {1}}.get(strategy)
            if expected is None:  # a quarter, at least two; a node is at most one candidate ahead
                living = rule.living_after(update - 1, 13, 4) / 4
                numbers = (math.floor(living), math.ceil(living))
                expected = {min(n, max(2, math.ceil(n / 4))) for n in numbers}
            assert {len(chosen) for chosen in row} <= expected
    rests = [moment.alpha is None for moment in schedule[:10]]
    warm_up = {"darts": 0, "elimination": 0.4 * MOMENTS}.get(strategy, 10)
    assert rests == [update <= warm_up for update in range(1, 11)]
    assert model.architecture.mean_living() == 13.5


def test_a_supernet_of_some_candidates(tmp_path, capsys):
    whole, part = (
        results(tmp_path, "--layers=2", *flags)[0]["rows"][0]["theta"]["weights"]
        for flags in ([], ["--encoder-candidates=ffn,glu", "--decoder-candidates=conv_3"])
    )
    assert part < 0.4 * whole
    with pytest.raises(SystemExit, match="--encoder-candidates ff: no encoder operation 'ff'"):
        profile.main([*SMALL, "--encoder-candidates=ff"])


def test_derived_network_beside_the_transformer(tmp_path):
    genotype = tmp_path / "genotype.json"
    TYPICAL.save(genotype)
    (result,) = results(tmp_path, f"--genotype={genotype}", "--layers=2")
    rows = {row["network"]: row for row in result["rows"]}
    assert list(rows) == ["reconstruct", "checkpoint", "store", "fairseq transformer"]
    sizes = [row["theta"]["gradients"] for row in rows.values()]
    assert max(sizes) <= 1.05 * min(sizes)
    assert all("alpha" not in row for row in rows.values())
    assert rows["store"]["generated_a_second"] and rows["fairseq transformer"]["generated_a_second"]


@pytest.mark.parametrize(
    ("flags", "criterion"),
    [((), "ReversibleSearchCriterion"), (("--genotype=random:1",), "LabelSmoothedCross")],
)
def test_the_loss_is_that_of_what_is_profiled(flags, criterion):
    workload, _ = profile.network_of(profile.parse_arguments([*SMALL, *flags]))
    assert type(workload.criterion()).__name__.startswith(criterion)


def test_out_of_memory_is_reported_and_the_rest_goes_on(tmp_path, monkeypatch, capsys):
    measure = compare.measure_memory

    def limited(steps, step):
        if steps.model.stacks()[0].backprop == "store":
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")
        return measure(steps, step)

    monkeypatch.setattr(compare, "measure_memory", limited)
    (result,) = results(tmp_path, "--layers=1")
    failed = {row["network"]: row["failed"] for row in result["rows"]}
    assert failed["store"] == failed["store, all gradients"] == "out of memory"
    assert failed["reconstruct"] is None and failed["checkpoint"] is None
    assert "out of memory" in capsys.readouterr().out


def test_a_network_too_large_to_be_built_is_reported(tmp_path, monkeypatch, capsys):
    build = Workload.build

    def limited(workload, flags):
        if flags["encoder_layers"] == 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")
        return build(workload, flags)

    monkeypatch.setattr(Workload, "build", limited)
    flags = ["--sweep=layers", "--values=2,4", "--memory=1"]
    small, large = results(tmp_path, *flags)
    assert {row["failed"] for row in small["rows"]} == {None}
    assert [row["network"] for row in large["rows"]] == SEARCH_ROWS
    assert {row["failed"] for row in large["rows"]} == {"out of memory"}
    assert "that fits 1 GB\nreconstruct                 2\n" in capsys.readouterr().out


def test_progress_elsewhere_is_a_line_for_each_measurement(tmp_path, monkeypatch, capsys):
    memory = {"activations": 1, "later_activations": 1, "weights": 1, "gradients": 1}
    monkeypatch.setattr(compare, "measure_memory", lambda *_: memory)
    monkeypatch.setattr(compare, "measure_time", lambda *_: 1.0)
    monkeypatch.setattr(compare, "measure_drift", lambda *_: [0.0, 0.0])
    results(tmp_path, "--layers=1")
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("1+1 layers, d = 48: ")]
    assert len(lines) == 1 + 2 * len(SEARCH_ROWS)
    assert lines[1] == "1+1 layers, d = 48: 1 of 10: reconstruct, memory"
    assert lines[-1] == "1+1 layers, d = 48: 10 of 10: store, all gradients, time, run 1 of 1"
    assert " of 10: " not in out and "\r" not in err + out


def test_progress_on_a_terminal_is_one_line_of_which_nothing_is_left(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    with pytest.raises(ValueError), profile.progress_line("2+2 layers") as report:
        report("1 of 2: reconstruct")
        report("2 of 2: checkpoint, all gradients, time")
        raise ValueError
    out, err = capsys.readouterr()
    before, first, second, rest = err.split("\r\033[K")
    assert first == "2+2 layers: 1 of 2: reconstru" and len(second) == 29
    assert before == rest == out == "" and "\n" not in err


def test_every_flag_has_help_and_default(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        profile.main(["--help"])
    text = capsys.readouterr().out
    flags = re.split(r"^  (?=--)", text.split("\nnetwork:")[1], flags=re.MULTILINE)[1:]
    assert len(flags) == 28
    for flag in flags:
        words = " ".join(flag.split())
        assert re.search(r"[a-z]+ .*\(default: (?!None)", words), flag


def test_other_errors_are_not_hidden(monkeypatch):
    def broken(*_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(compare, "measure_memory", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        profile.main([*SMALL, "--layers=1"])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision(tmp_path, precision):
    (single,) = results(tmp_path, "--layers=1")
    (half,) = results(tmp_path, "--layers=1", f"--precision={precision}")
    for one, other in zip(single["rows"], half["rows"]):
        assert other["failed"] is None
        assert other["theta"]["gradients"] < 0.6 * one["theta"]["gradients"]


def test_errors_name_the_flag():
    for flag, message in (
        ("--hidden-size=50", "--hidden-size 50: "),
        ("--layers=3", "--layers 3: not a positive multiple of 2 "),
    ):
        with pytest.raises(SystemExit, match=message):
            profile.main([*SMALL, "--cell-layers=2", flag])
    for flag in (
        *("--tokens=0", "--pooling=median", "--genotype=missing.json", "--vocabulary=4"),
        *("--values=1,x", "--values=2", "--json=no/such/folder/x.json", "--memory=0"),
    ):
        with pytest.raises(SystemExit) as error:
            profile.main([*SMALL, flag])
        assert error.value.code == 2


def test_console_script():
    output = run("revdarts-profile", *SMALL, "--layers=1")
    for name in SEARCH_ROWS:
        assert f"\n{name} " in output
