"""`revdarts-derive`: from checkpoints to a genotype, or to one line that says why not."""

import contextlib
import io
import math
import os
import re
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_revdarts.cli.derive import main
from fairseq_revdarts.genotype import load_genotype
from fairseq_revdarts.search_space import CANDIDATES, CROSS_ATTENTION, PARAMETER_FREE

OLD = "what the output file held before\n"


def random_alpha(seed=0, cell_layers=2, encoder_splits=2, searched=2):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"encoder": (cell_layers, encoder_splits, 13), "decoder": (cell_layers, searched, 14)}
    return {side: torch.randn(shape, generator=generator) for side, shape in shapes.items()}


def search(alpha=None, pooling="max"):
    """What a search's checkpoint holds, as far as it matters here."""
    alpha = random_alpha() if alpha is None else alpha
    model = {f"architecture.{side}": tensor for side, tensor in alpha.items()}
    weights = {
        "encoder.layer_norm.weight": torch.ones(4),
        "architecture.encoder_step": torch.ones(()),
    }
    return {"cfg": {"model": {"pooling": pooling}}, "model": {**weights, **model}}


def save(path, content):
    torch.save(content, path)
    return str(path)


def best(side, alpha, exclude=()):
    """The argmax of each node, computed the slow way."""
    fixed = [CROSS_ATTENTION] if side == "decoder" else []
    return tuple(
        tuple(
            [
                max(
                    (value, name)
                    for value, name in zip(node, CANDIDATES[side])
                    if name not in exclude
                )[1]
                for node in layer
            ]
            + fixed
        )
        for layer in alpha[side].tolist()
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory: empty but for an output file of before."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "genotype.json").write_text(OLD, encoding="utf-8")
    return tmp_path


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


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--top=0"], "--top 0: at least 1"),
        (["--top=2", "--by-family"], "--top: not with --by-family"),
        (["other.pt", "--weights=network.pt"], "--weights: the weights are those of one"),
    ],
)
def test_flags_that_do_not_fit(folder, capsys, flags, message):
    with pytest.raises(SystemExit):
        main([save("checkpoint.pt", search()), *flags])
    assert message in capsys.readouterr().err
    assert (folder / "genotype.json").read_text() == OLD


def test_there_are_no_more_than_the_search_has_left(folder, capsys):
    content = search()
    for side in CANDIDATES:
        living = torch.zeros_like(content["model"][f"architecture.{side}"], dtype=torch.bool)
        living[..., 2] = True
        content["model"][f"architecture.{side}_living"] = living
    main([save("checkpoint.pt", content), "--top=3"])
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
    """The printed share is right; the warning is there if, and only if, it is above 95 %."""
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
        warned = f"warning: {side}: alpha's entropy is" in output
        assert warned == (share > 95) or abs(share - 95) < 1e-6


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


# ------------------------------------------------------------------------------- errors


def failure(capsys, *arguments):
    """The one line that `revdarts-derive ARGUMENTS` ends with; nothing else may have happened."""
    before = {name: os.stat(name).st_mtime_ns for name in os.listdir()}
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    printed = capsys.readouterr()
    code = stop.value.code  # as text, Python prints it and exits with 1
    assert code == 1 or isinstance(code, str)
    message = (printed.err + (code if isinstance(code, str) else "")).strip()
    assert message.startswith("revdarts-derive: error: ")
    assert "\n" not in message
    assert printed.out == ""
    assert {name: os.stat(name).st_mtime_ns for name in os.listdir()} == before
    with open("genotype.json", encoding="utf-8") as file:
        assert file.read() == OLD
    return message


def test_a_file_that_is_not_there(folder, capsys):
    assert "no/such.pt: no such file" in failure(capsys, "no/such.pt")


def test_a_directory(folder, capsys):
    os.mkdir("checkpoints")
    assert "checkpoints" in failure(capsys, "checkpoints")


@pytest.mark.parametrize("share", [0, 0.001, 0.005, 0.02, 0.1, 0.5, 0.9, 0.99, 0.9999])
@pytest.mark.parametrize("zip_file", [True, False])
def test_a_truncated_file(folder, capsys, share, zip_file):
    content = search()
    content["model"]["encoder.large"] = torch.zeros(5000)
    torch.save(content, "checkpoint.pt", _use_new_zipfile_serialization=zip_file)
    size = os.path.getsize("checkpoint.pt")
    os.truncate("checkpoint.pt", int(share * size))
    message = failure(capsys, "checkpoint.pt")
    assert "checkpoint.pt" in message
    assert "cut short" in message


NO_CHECKPOINT = {
    "empty": b"",
    "text": b"hello\n",
    "JSON": b'{"format": "revdarts-genotype"}\n',
    "long text": b"a b c\n" * 100,
    "start of a pickle": b"\x80\x02",
    "broken pickle": b"\x80\x04\x95" + b"\0" * 20,
    "pickle that would run code": b"cos\nsystem\n(S'true'\ntR.",
    "broken zip": b"PK\x03\x04" + b"\0" * 100,
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("content", NO_CHECKPOINT.values(), ids=NO_CHECKPOINT)
def test_a_file_that_is_no_checkpoint(folder, capsys, content):
    (folder / "checkpoint.pt").write_bytes(content)
    assert "checkpoint.pt" in failure(capsys, "checkpoint.pt")


def without(content, *keys):
    return {key: value for key, value in content.items() if key not in keys}


ALPHA = search()["model"]
NO_SEARCH = {
    "of a derived network": {**search(), "model": {"encoder.layer_norm.weight": torch.ones(4)}},
    "of one side only": {**search(), "model": without(ALPHA, "architecture.decoder")},
    "without weights": {**search(), "model": None},
    "without model": without(search(), "model"),
    "weights that are a list": {**search(), "model": [1, 2]},
    "weights that are a tensor": {**search(), "model": torch.ones(3)},
    "a list": [1, 2, 3],
    "a tensor": torch.ones(3),
    "nothing": None,
    "without configuration": without(search(), "cfg"),
    "configuration that is nothing": {**search(), "cfg": None},
    "another model's configuration": {**search(), "cfg": {"model": {"arch": "transformer"}}},
    "alpha that is no tensor": {
        **search(),
        "model": {"architecture.encoder": 1.0, "architecture.decoder": 2.0},
    },
    "alpha of other candidates": search({**random_alpha(), "encoder": torch.ones(2, 2, 12)}),
    "alpha of two dimensions": search({"encoder": torch.ones(2, 13), "decoder": torch.ones(2, 14)}),
    "alpha of other cell layers on each side": search(
        {"encoder": torch.ones(1, 2, 13), "decoder": torch.ones(2, 2, 14)}
    ),
    "unknown pooling": search(pooling="median"),
}


@pytest.mark.parametrize("content", NO_SEARCH.values(), ids=NO_SEARCH)
def test_a_checkpoint_that_is_no_search(folder, capsys, content):
    assert "checkpoint.pt" in failure(capsys, save("checkpoint.pt", content))


def test_a_checkpoint_that_would_run_code(folder, capsys):
    class Attack:
        def __reduce__(self):
            return os.mkdir, ("attacked",)

    save("checkpoint.pt", {**search(), "extra": Attack()})
    assert "checkpoint.pt" in failure(capsys, "checkpoint.pt")
    assert not os.path.exists("attacked")


OTHER_SPACES = {
    "cell layers": search(random_alpha(cell_layers=1)),
    "encoder splits": search(random_alpha(encoder_splits=3)),
    "decoder splits": search(random_alpha(searched=3)),
    "pooling": search(pooling="avg"),
}


@pytest.mark.parametrize("other", OTHER_SPACES.values(), ids=OTHER_SPACES)
def test_checkpoints_of_different_search_spaces(folder, capsys, other):
    paths = [save("0.pt", search()), save("1.pt", search()), save("2.pt", other)]
    message = failure(capsys, *paths)
    assert "2.pt" in message
    assert "0.pt" in message
    assert "another search space" in message


def test_one_broken_checkpoint_among_several_is_named(folder, capsys):
    save("0.pt", search())
    message = failure(capsys, "0.pt", "1.pt")
    assert "1.pt" in message
    assert "0.pt" not in message


@pytest.mark.parametrize(
    ("exclude", "words"),
    [
        ("conv_4", ["'conv_4'", "conv_3"]),
        ("ffn,FFN", ["'FFN'", "ffn"]),
        (",".join(CANDIDATES["encoder"]), ["all encoder operations"]),
    ],
)
def test_what_cannot_be_excluded(folder, capsys, exclude, words):
    message = failure(capsys, save("checkpoint.pt", search()), "--exclude", exclude)
    for word in ["exclude", *words]:
        assert word in message


@pytest.mark.parametrize("output", ["no/such/folder/found.json", "a_folder"])
def test_an_output_that_cannot_be_written(folder, capsys, output):
    os.mkdir("a_folder")
    checkpoint = save("checkpoint.pt", search())
    message = failure(capsys, checkpoint, "-o", output)
    assert output in message and "None" not in message
    assert os.listdir("a_folder") == []


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
