"""`revdarts-derive`: from checkpoints to a genotype."""

import contextlib
import io
import math
import os
import re
import subprocess
import sys

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from searches import best, random_alpha, random_living, save, search

from fairseq_revdarts.cli.derive import main
from fairseq_revdarts.genotype import load_genotype
from fairseq_revdarts.search_space import CANDIDATES, CROSS_ATTENTION, PARAMETER_FREE

# ------------------------------------------------------------------------------- genotypes


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 2**31),
    st.integers(1, 4),
    st.integers(2, 5),
    st.integers(1, 4),
    st.sampled_from(["max", "avg"]),
)
def test_the_genotype_is_the_argmax(
    tmp_path_factory, seed, cell_layers, encoder_splits, searched, pooling
):
    folder = tmp_path_factory.getbasetemp()
    alpha = random_alpha(seed, cell_layers, encoder_splits, searched)
    checkpoint, output = save(folder / "one.pt", search(alpha, pooling)), str(folder / "one.json")
    main([checkpoint, "-o", output])
    genotype = load_genotype(output)
    assert genotype.pooling == pooling
    assert genotype.encoder == best("encoder", alpha)
    assert genotype.decoder == best("decoder", alpha)


def test_the_output_is_genotype_json_unless_said_otherwise(folder, capsys):
    main([save("checkpoint.pt", search())])
    assert load_genotype("genotype.json").encoder == best("encoder", random_alpha())
    assert "genotype.json" in capsys.readouterr().out
    assert sorted(os.listdir(folder)) == ["checkpoint.pt", "genotype.json"]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.integers(2, 30))
def test_the_top_genotypes_are_the_most_probable_ones(tmp_path_factory, seed, count):
    folder = tmp_path_factory.mktemp("top")
    alpha = random_alpha(seed, 1, 2, 1)
    checkpoint, output = save(folder / "one.pt", search(alpha)), folder / "one.json"
    main([checkpoint, "-o", str(output), "--top", str(count)])
    assert len(list(folder.glob("*.json"))) == count
    logs = {side: alpha[side].log_softmax(-1)[0] for side in CANDIDATES}
    all_sums = sum(
        row.reshape([-1 if k == place else 1 for k in range(3)])
        for place, row in enumerate([*logs["encoder"], *logs["decoder"]])
    )
    found = []
    for number in range(1, count + 1):
        path = output if number == 1 else folder / f"one-{number}.json"
        genotype = load_genotype(str(path))
        found.append(
            sum(
                float(row[CANDIDATES[side].index(name)])
                for side in CANDIDATES
                for row, name in zip(logs[side], getattr(genotype, side)[0])
            )
        )
    best_sums = all_sums.flatten().topk(count).values
    torch.testing.assert_close(torch.tensor(found), best_sums)


def test_there_are_no_more_than_the_search_has_left(folder, capsys):
    living = random_living(seed=0, threshold=-math.inf)
    main([save("checkpoint.pt", search(living=living)), "--top=3"])
    assert sorted(os.listdir(folder)) == ["checkpoint.pt", "genotype.json"]
    assert "--top 3: there are no more" in capsys.readouterr().out


def test_alpha_is_averaged_over_checkpoints(folder):
    alphas = [random_alpha(seed) for seed in range(3)]
    for index, alpha in enumerate(alphas):  # each has a favourite of its own, and the same second
        alpha["encoder"][0, 0, :4] = 9.0
        alpha["encoder"][0, 0, index] = 10.0
        alpha["encoder"][0, 0, 3] = 9.9
    paths = [save(f"{index}.pt", search(alpha)) for index, alpha in enumerate(alphas)]
    main([*paths, "--output", "mean.json"])
    mean = {side: sum(alpha[side] for alpha in alphas) / 3 for side in CANDIDATES}
    genotype = load_genotype("mean.json")
    assert genotype.encoder[0][0] == "conv_11"
    assert genotype.encoder == best("encoder", mean)
    assert genotype.decoder == best("decoder", mean)


places = st.tuples(
    st.sampled_from(sorted(CANDIDATES)), *[st.integers(0, 1)] * 2, st.integers(0, 12)
)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.floats(-2, 2), st.integers(2, 3), st.none() | places)
def test_an_average_is_of_the_same_candidates(tmp_path_factory, seed, threshold, number, place):
    """If one is left in one checkpoint and not in the others, node and file are named."""
    folder = tmp_path_factory.mktemp("average")
    alphas = [random_alpha(seed + index) for index in range(number)]
    living = [random_living(seed, threshold) for _ in range(number)]
    if place:
        side, layer, split, candidate = place
        living[-1][side][layer, split, candidate] ^= True
        assume(living[-1][side].any(-1).all())
    paths = [
        save(folder / f"{index}.pt", search(alpha, living=left))
        for index, (alpha, left) in enumerate(zip(alphas, living))
    ]
    output = str(folder / "mean.json")
    if place:
        with pytest.raises(SystemExit) as stop:
            main([*paths, "-o", output])
        node = f"{side}.{layer + 1}.{split + 1}"
        expected = f"{paths[-1]}: other candidates are left in {node} than in {paths[0]}"
        assert expected in stop.value.code and "--exclude" not in stop.value.code
        return
    main([*paths, "-o", output])
    mean = {
        side: (sum(alpha[side] for alpha in alphas) / number).where(living[0][side], -torch.inf)
        for side in CANDIDATES
    }
    genotype = load_genotype(output)
    assert genotype.encoder == best("encoder", mean)
    assert genotype.decoder == best("decoder", mean)


@pytest.mark.parametrize(
    "exclude", [PARAMETER_FREE, ("ffn",), tuple(CANDIDATES["encoder"][1:]), (CROSS_ATTENTION,)]
)
def test_excluded_operations_are_passed_over(folder, exclude):
    alpha = random_alpha()
    for name in exclude:
        for side in CANDIDATES:
            if name in CANDIDATES[side]:
                alpha[side][..., CANDIDATES[side].index(name)] += 100
    checkpoint = save("checkpoint.pt", search(alpha))
    main([checkpoint, "-o", "rest.json", "--exclude", ",".join(exclude)])
    genotype = load_genotype("rest.json")
    assert genotype.encoder == best("encoder", alpha, exclude)
    assert genotype.decoder == best("decoder", alpha, exclude)


@pytest.mark.parametrize(
    "flags, expected",
    [([], "conv_5"), (["--exclude", "conv_5,conv_3,conv_7"], "dynamic_conv_3")],
)
def test_by_family_with_and_without_exclude(folder, capsys, flags, expected):
    alpha = random_alpha()
    for side in CANDIDATES:
        alpha[side].zero_()
        alpha[side][..., CANDIDATES[side].index("ffn")] = 1.0
        alpha[side][..., CANDIDATES[side].index("conv_5")] = 0.1
    main([save("checkpoint.pt", search(alpha)), "--by-family", *flags])
    genotype = load_genotype("genotype.json")
    assert {name for layer in genotype.encoder for name in layer} == {expected}
    assert {name for layer in genotype.decoder for name in layer[:-1]} == {expected}
    row = re.search(r"^encoder\.1\.1 (.*)$", capsys.readouterr().out, re.MULTILINE)[1]
    convolution = 1 if flags else 3 + math.exp(0.1)
    weights = {"convolution": convolution, "dynamic convolution": 4, "feed-forward": 1 + math.e}
    total = sum(weights.values()) + 1 + 2  # self-attention, zero and identity
    for name, weight in sorted(weights.items(), key=lambda item: -item[1])[:2]:
        star = r"\*" if expected.startswith(name[:4]) else ""
        assert re.search(rf"  {name}{star} +{weight / total:.3f}", row), row


# ------------------------------------------------------------------------------- the table


def table(text):
    """For each node the operations of its row, with their numbers and whether * marks them."""
    rows = re.findall(r"^((?:encoder|decoder)\.\d+\.\d+) (.*)$", text, flags=re.MULTILINE)
    return {
        node: {
            name: (float(number), bool(star))
            for name, star, number in re.findall(r"(\w+?)(\*?)\s+(\d\.\d+)", row)
        }
        for node, row in rows
    }


@pytest.mark.parametrize("exclude", [(), PARAMETER_FREE, CANDIDATES["encoder"][:12]])
def test_the_table_names_each_node_and_marks_the_chosen_operation(folder, capsys, exclude):
    alpha = random_alpha(seed=3)
    main([save("checkpoint.pt", search(alpha)), "--exclude", ",".join(exclude)])
    rows = table(capsys.readouterr().out)
    genotype = load_genotype("genotype.json")
    assert len(rows) == 8
    for side in CANDIDATES:
        for layer in (0, 1):
            for split in (0, 1):
                row = rows[f"{side}.{layer + 1}.{split + 1}"]
                probabilities = alpha[side][layer, split].softmax(0).tolist()
                by_name = dict(zip(CANDIDATES[side], probabilities))
                marked = [name for name, (_, star) in row.items() if star]
                assert marked == [getattr(genotype, side)[layer][split]]
                assert max(by_name, key=by_name.get) in row
                for name, (number, _) in row.items():
                    assert number == pytest.approx(by_name[name], abs=6e-4)


# --------------------------------------------------------------------- how sure a search is


def test_a_folder_stands_for_its_last_checkpoint(folder):
    os.mkdir("search")
    save("search/checkpoint_last.pt", search())
    save("search/checkpoint_best.pt", search(random_alpha(seed=1)))
    main(["search", "-o", "found.json"])
    assert load_genotype("found.json").encoder == best("encoder", random_alpha())


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.floats(0, 5))
def test_entropy_as_a_share_of_uniform(tmp_path_factory, seed, scale):
    """The printed share is right; a warning names the sides above 95 %, and no others."""
    alpha = {side: scale * tensor for side, tensor in random_alpha(seed).items()}
    folder = tmp_path_factory.getbasetemp()
    checkpoint = save(folder / "share.pt", search(alpha))
    output = printed_by(checkpoint, "-o", folder / "share.json")
    for side, candidates in (("encoder", 13), ("decoder", 14)):
        probabilities = alpha[side].double().softmax(-1)
        entropy = float(-(probabilities * probabilities.log()).sum(-1).mean())
        share = 100 * entropy / math.log(candidates)
        line = re.search(rf"^{side}: entropy (.*)$", output, re.MULTILINE)[1]
        nats, percent, uniform = re.fullmatch(
            rf"(\S+) nats, (\d+) % of uniform; each of {candidates} candidates has (\S+) if "
            "uniform",
            line,
        ).groups()
        assert float(nats) == pytest.approx(entropy, abs=6e-3)
        assert int(percent) == pytest.approx(share, abs=0.51)
        assert float(uniform) == pytest.approx(1 / candidates, abs=6e-4)
        warning = rf"^warning: alpha's entropy .* of uniform in the {side}\b"
        warned = re.search(warning, output, re.MULTILINE)
        assert bool(warned) == (share > 95) or abs(share - 95) < 1e-6


def printed_by(*arguments):
    """What revdarts-derive prints; hypothesis runs a test too often for capsys."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        main([str(argument) for argument in arguments])
    return printed.getvalue()


def favouring(*operations):
    """Alpha that puts first each of `operations` in turn, in the decoder's four searched nodes."""
    alpha = random_alpha()
    for node, name in enumerate(operations):
        alpha["decoder"][node // 2, node % 2, CANDIDATES["decoder"].index(name)] = 100.0
    return search(alpha)


@pytest.mark.parametrize(
    "operations", [("ffn", "glu", "zero", "identity"), ("ffn", CROSS_ATTENTION, "ffn", "ffn")]
)
def test_a_decoder_that_mixes_no_target_positions(folder, capsys, operations):
    checkpoint = save("checkpoint.pt", favouring(*operations))
    warning = "warning: decoder: no node mixes target positions"
    main([checkpoint])
    assert capsys.readouterr().out.count(warning) == 1
    main([checkpoint, "--exclude", ",".join(operations)])
    assert warning not in capsys.readouterr().out


@pytest.mark.parametrize("mixing", ["self_attention", "conv_3", "dynamic_conv_15"])
def test_a_decoder_that_mixes_target_positions_in_one_node(folder, capsys, mixing):
    main([save("checkpoint.pt", favouring("ffn", "ffn", mixing, "zero"))])
    assert "warning" not in capsys.readouterr().out


@settings(deadline=None, max_examples=25)
@given(st.sets(st.sampled_from(CANDIDATES["decoder"]), min_size=1), st.booleans())
def test_operations_that_alpha_cannot_tell_apart(tmp_path_factory, equal, excluded):
    """The warning names the best operations of a node, if there are several."""
    folder, alpha, flags = tmp_path_factory.getbasetemp(), random_alpha(), []
    for name in equal:
        alpha["decoder"][1, 0, CANDIDATES["decoder"].index(name)] = 50.0
    in_order = [name for name in CANDIDATES["decoder"] if name in equal]
    if excluded and len(equal) > 1:
        flags = ["--exclude", in_order.pop()]
    output = printed_by(save(folder / "ties.pt", search(alpha)), "-o", folder / "t.json", *flags)
    tie = f"such as decoder.2.1 ({', '.join(in_order)})"
    assert (tie in output) == (len(in_order) > 1) == ("the same alpha" in output)


# ------------------------------------------------------------------------------- the command


def test_the_command(folder):
    save("checkpoint.pt", search())
    command = [sys.executable, "-m", "fairseq_revdarts.cli.derive", "checkpoint.pt"]
    run = subprocess.run(
        [*command, "-o", "found.json"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert load_genotype("found.json").encoder == best("encoder", random_alpha())
    nodes = {f"{side}.{i}.{k}" for side in CANDIDATES for i in (1, 2) for k in (1, 2)}
    assert set(table(run.stdout)) == nodes
