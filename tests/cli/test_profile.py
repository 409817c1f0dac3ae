"""revdarts-profile: its rows, its errors, and what it shows of the memory."""

import json

import pytest
from helpers import TYPICAL
from running import run

from fairseq_revdarts.cli import profile

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
    assert deep[2] > 2.5 * shallow[2]  # store: in proportion
    output = capsys.readouterr().out
    assert "largest layers of those swept that fits 0.004 GB" in output


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


def test_out_of_memory_is_reported_and_the_rest_goes_on(tmp_path, monkeypatch, capsys):
    measure = profile.measure_memory

    def limited(steps, step):
        if steps.model.stacks()[0].backprop == "store":
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")
        return measure(steps, step)

    monkeypatch.setattr(profile, "measure_memory", limited)
    (result,) = results(tmp_path, "--layers=1")
    failed = {row["network"]: row["failed"] for row in result["rows"]}
    assert failed["store"] == failed["store, all gradients"] == "out of memory"
    assert failed["reconstruct"] is None and failed["checkpoint"] is None
    assert "out of memory" in capsys.readouterr().out


def test_a_network_too_large_to_be_built_is_reported(tmp_path, monkeypatch, capsys):
    build = profile.Workload.build

    def limited(workload, flags):
        if flags["encoder_layers"] == 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")
        return build(workload, flags)

    monkeypatch.setattr(profile.Workload, "build", limited)
    flags = ["--sweep=layers", "--values=2,4", "--memory=1"]
    small, large = results(tmp_path, *flags)
    assert {row["failed"] for row in small["rows"]} == {None}
    assert [row["network"] for row in large["rows"]] == SEARCH_ROWS
    assert {row["failed"] for row in large["rows"]} == {"out of memory"}
    assert "that fits 1 GB\nreconstruct                 2\n" in capsys.readouterr().out


def test_the_first_row_out_of_memory_leaves_the_others_their_figures():
    rows = [
        {"network": "reconstruct", "failed": "out of memory"},
        {
            "network": "store",
            "failed": None,
            "theta": {"activations": 3e6, "weights": 2e6, "gradients": 2e6},
            "theta_seconds": [1.5],
        },
    ]
    assert "theta MB" in profile.table(rows, None) and "1.5 [1.5-1.5]" in profile.table(rows, None)


def test_other_errors_are_not_hidden(monkeypatch):
    def broken(*_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(profile, "measure_memory", broken)
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
        ("--layers=3", "--encoder-layers 3: "),
    ):
        with pytest.raises(SystemExit, match=message):
            profile.main([*SMALL, "--cell-layers=2", flag])
    for flag in (
        *("--tokens=0", "--pooling=median", "--genotype=missing.json", "--vocabulary=4"),
        *("--values=1,x", "--values=2", "--json=no/such/folder/x.json"),
    ):
        with pytest.raises(SystemExit) as error:
            profile.main([*SMALL, flag])
        assert error.value.code == 2


def test_console_script():
    output = run("revdarts-profile", *SMALL, "--layers=1")
    for name in SEARCH_ROWS:
        assert f"\n{name} " in output
