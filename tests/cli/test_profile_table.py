"""The table of revdarts-profile: ratios, what fits, and what is known of a process or a GPU."""

import pytest

from fairseq_revdarts.profiling import compare, table


def row(network, activations=(3e6, 2e6), seconds=(1.5, 1.7), weights=2e6, **more):
    """Of a supernet, as `compare` gives it."""
    theta, alpha = (
        {"activations": used, "weights": weights, "gradients": gradients}
        for used, gradients in zip(activations, (2e6, 0))
    )
    theta["later_activations"] = 1.5 * theta["activations"]
    times = {f"{step}_seconds": list(seconds) for step in ("theta", "alpha", "pair")}
    return {"network": network, "failed": None, "theta": theta, "alpha": alpha, **times, **more}


def test_ratios_are_to_store():
    """Of memory in the step that needs most, and of the median time."""
    rows = [
        row("reconstruct", (1e6, 3e6), (6, 2, 3)),
        row("checkpoint", (1e6, 1e6), (1, 1, 1)),
        row("store", (8e6, 2e6), (1, 2, 3)),
    ]
    lines = [line.split("  ") for line in table.table(rows, None).splitlines()]
    cells = [[cell.strip() for cell in line if cell] for line in lines]
    assert cells == [
        ["network", "theta MB", "later", "alpha MB", "/store", "pair s", "/store"],
        ["reconstruct", "1.0", "1.5", "3.0", "0.25", "3 [2-6]", "1.5"],
        ["checkpoint", "1.0", "1.5", "1.0", "0.125", "1 [1-1]", "0.5"],
        ["store", "8.0", "12.0", "2.0", "1", "2 [1-3]", "1"],
    ]


def test_rows_without_figures_leave_the_others_theirs():
    rows = [
        {"network": "reconstruct", "failed": "out of memory"},
        row("checkpoint"),
        {"network": "store", "failed": "out of memory"},
    ]
    header, reconstruct, checkpoint, store = table.table(rows, None).splitlines()
    assert reconstruct == "reconstruct  out of memory" and store == "store        out of memory"
    assert len(checkpoint) == len(header)
    assert checkpoint.split()[-4:] == ["-", "1.6", "[1.5-1.7]", "-"]
    assert "theta" not in table.describe([rows[0], rows[2]], 1.0).replace("theta s", "")


def test_what_all_rows_have_in_common_stands_once_above():
    rows = [row("reconstruct"), row("store"), row("fairseq transformer")]
    assert table.describe(rows, None).count("weights 2.0 MB, gradients 2.0 MB\n") == 1
    rows[2]["theta"]["weights"] = 2.1e6
    text = table.describe(rows, None)
    assert "weights 2.0 MB (fairseq transformer: 2.1 MB), gradients 2.0 MB\n" in text
    assert "weights" not in table.table(rows, None)


def test_what_fits_a_memory_counts_the_moments_of_adam():
    """3 times 2 MB of weights, 2 MB of gradients, up to 4.5 MB of activations."""
    assert "fits 0.0126 GB" in table.table([row("store")], 0.0126)
    assert table.table([row("store")], 0.0126).endswith("yes")
    assert table.table([row("store")], 0.0124).endswith("no")


@pytest.mark.parametrize("genotype", [True, False])
def test_the_table_fits_100_columns(genotype):
    large = {"activations": (66666e6, 99999e6), "weights": 88888e6}
    contestants = compare.OF_A_GENOTYPE if genotype else compare.OF_A_SUPERNET
    rows = [row(one.name, seconds=(0.01234, 123.4, 1234), **large) for one in contestants]
    rows[0]["drift"] = [1.234e-7, 1.234e-7]
    rows[-1]["theta"]["weights"] = 77777e6
    if genotype:
        for entry in rows:
            del entry["alpha"]
        for entry in rows[-2:]:
            entry["generated_a_second"] = [12345.6, 23456.7]
    lines = [*table.describe(rows, 16.0).splitlines(), *table.LEGEND.splitlines()]
    assert max(map(len, lines)) <= 100


def test_what_the_allocator_of_a_gpu_took_has_a_column():
    rows = [row("reconstruct", resident=7e6), row("store", resident=9e6)]
    assert "GPU MB" not in table.table(rows, None)
    rows[0]["theta"]["reserved"], rows[0]["alpha"]["reserved"] = 4e6, 5e6
    header, reconstruct, store = table.table(rows, None).splitlines()
    assert header.split()[6:10] == ["top", "MB", "GPU", "MB"]
    assert reconstruct.split()[4:6] == ["7.0", "5.0"] and store.split()[4:6] == ["9.0", "-"]
