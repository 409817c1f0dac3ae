"""Latency: the table, its measurement, and a search within a budget of milliseconds."""

import json
import re

import pytest
from helpers import genotypes
from hypothesis import given, settings
from running import SEARCH, train_in_process

from fairseq_revdarts.cli import profile
from fairseq_revdarts.cli.derive import main as derive
from fairseq_revdarts.genotype import load_genotype
from fairseq_revdarts.profiling import latency
from fairseq_revdarts.search.cost import latency_costs
from fairseq_revdarts.search.latency_table import LatencyTable, load_latency_table
from fairseq_revdarts.search_space import CANDIDATES

few = settings(deadline=None, max_examples=10)
SMALL = [*SEARCH, "--train-subset=valid", "--batch-size=2", "--alpha-split=0.3", "--log-interval=1"]
#: The sizes of the networks of SEARCH.
SIZES = {
    **{"hidden_size": 48, "embed_dim": 16, "ffn_embed_dim": 32, "attention_heads": 4},
    **{"encoder_splits": 2, "decoder_splits": 3},
}
ELIMINATION = [
    *("--search-strategy=elimination", "--warmup-share=0.2", "--elimination-share=(0.3, 0.9)"),
]


def table(**changes):
    """A latency table that nobody has measured."""
    times = {
        side: {
            name: {"decode": float(len(name)), "train": 1.0 + number}
            for number, name in enumerate(names)
        }
        for side, names in CANDIDATES.items()
    }
    layer = {"encoder": {"decode": 0.5, "train": 1.0}, "decoder": {"decode": 3.0, "train": 1.0}}
    content = {
        **{"machine": "none", "sizes": SIZES, "workload": {}, "layer": layer},
        **{"outside": {"decode": 100.0, "train": 1.0}, "candidates": times},
    }
    return LatencyTable(**{**content, **changes})


@few
@given(genotypes(layers=(2, 2), splits=(3, 3)))
def test_the_latency_of_a_network_is_the_sum_of_its_parts(genotype):
    layers = {"encoder_layers": 6, "decoder_layers": 4, "cell_layers": 2}
    costs = latency_costs(table(), {**SIZES, **layers, "encoder_splits": 3})
    expected = 100 + 6 * 0.5 + 4 * 3.0
    expected += 3 * sum(len(name) for row in genotype.encoder for name in row)
    expected += 2 * sum(len(name) for row in genotype.decoder for name in row[:-1])
    assert costs.of(genotype) == pytest.approx(expected)


#: Milliseconds of a network in any measure, by the end of its name: without the noise of a clock.
MILLISECONDS = {
    **{latency.BASE: 10.0, "twice the layers": 12.0},
    **{"zero": 20.0, "conv_3": 21.0, "ffn": 22.0, "self_attention": 23.0},
}
measured_on_a_clock = latency._fastest


def measured_without_noise(*args):
    return {
        name: dict.fromkeys(times, MILLISECONDS[name.split(", ")[-1]])
        for name, times in measured_on_a_clock(*args).items()
    }


def test_latency_from_the_measurement_to_the_network(data, tmp_path, capsys, monkeypatch):
    """As a user does it: measure, search, derive."""
    monkeypatch.setattr(latency, "_fastest", measured_without_noise)
    names = ["--encoder-candidates=ffn,conv_3", "--decoder-candidates=self_attention,zero"]
    file = tmp_path / "latency.json"
    sizes = [f"--{name.replace('_', '-')}={value}" for name, value in SIZES.items()]
    measuring = ["--layers=1", "--cell-layers=1", "--tokens=40", "--length=4", "--vocabulary=60"]
    profile.main([*sizes, *measuring, *names, "--runs=1", f"--latency={file}"])
    assert "latency table written to" in capsys.readouterr().out
    measured = json.loads(file.read_text())
    assert measured["sizes"] == SIZES and measured["workload"]["beam"] == 5
    assert set(measured["candidates"]["encoder"]) == {"conv_3", "ffn", "zero"}
    assert "torch" in measured["machine"]
    assert measured["outside"]["decode"] == 6.0  # without two layers of 2 ms each
    flags = [*SMALL, *names, *ELIMINATION, "--cost=latency", f"--latency-table={file}"]
    with pytest.raises(ValueError, match=r"costs .* ms per sentence; a limit of at least") as error:
        train_in_process(data, tmp_path / "search", *flags, "--cost-limit=1e-3", updates=6)
    (least,) = re.findall(r"find costs ([\d,.]+) ms", str(error.value))
    limit = f"--cost-limit={least.replace(',', '')}"
    train_in_process(data, tmp_path / "search", *flags, limit, updates=6)
    found = load_genotype(str(tmp_path / "search/genotype.json"))
    assert {name for layer in found.encoder for name in layer} == {"conv_3"}
    for more in ([], [f"--latency-table={file}"]):
        derive([str(tmp_path / "search"), "-o", str(tmp_path / "derived.json"), *more])
    without, with_table = capsys.readouterr().out.split("genotype written to")[-2:]
    assert "compare with --latency-table" in without and "warning" not in with_table
    assert f"parameters, {least} ms per sentence, probability" in with_table


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not a table"),
        ("{}", "not a table"),
        ("[1]", "not a table"),
        (table(sizes={**SIZES, "hidden_size": 96}), "measured with --hidden-size 96, not with"),
        (table(sizes={"hidden_size": 48}), "not a table"),
        (table(outside={"decode": -1.0, "train": 1.0}), "not a table"),
        (table(candidates={"encoder": {}, "decoder": {}}), "no time of the encoder operation conv"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, content, message):
    file = tmp_path / "latency.json"
    if isinstance(content, LatencyTable):
        content.save(str(file))
    elif content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=re.escape(f"--latency-table {file}: ")) as error:
        load_latency_table(str(file), SIZES, CANDIDATES)
    assert message in str(error.value)


def test_a_table_is_read_as_it_was_written(tmp_path):
    table().save(str(tmp_path / "latency.json"))
    assert load_latency_table(str(tmp_path / "latency.json"), SIZES, CANDIDATES) == table()


@pytest.mark.parametrize("flag", ["--sweep=layers", "--genotype=random:1", "--memory=24"])
def test_a_latency_table_is_measured_alone(capsys, flag):
    with pytest.raises(SystemExit):
        profile.main(["--latency=x.json", flag])
    assert f"--latency x.json: not with {flag.split('=')[0]}" in capsys.readouterr().err
