"""summary.py: the table, the verdict, the warnings and the places of an example's results."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import CHECKOUT

sys.path.append(str(CHECKOUT / "examples"))
from summary import NETWORKS, Result, architecture, shown, table, verdict


def results(*scores):
    return [Result(name, 1000, bleu, 50.0, 1.25) for name, bleu in zip(NETWORKS.values(), scores)]


@pytest.mark.parametrize(
    ("scores", "outcome", "paid"),
    [
        (
            (28.06, 25.5, 25.25),
            "beat a random genotype by 2.56 BLEU and beat fairseq's transformer by 2.81 BLEU",
            True,
        ),
        (
            (20.0, 25.5, 18),
            "lost to a random genotype by 5.50 BLEU and beat fairseq's transformer by 2.00 BLEU",
            False,
        ),
        (
            (20.001, 20.004, 21),
            "came level with a random genotype and lost to fairseq's transformer by 1.00 BLEU",
            False,
        ),
    ],
)
def test_the_verdict_says_who_won_and_by_how_much(scores, outcome, paid):
    found, *others = results(*scores)
    text = verdict(found, others)
    assert text.startswith(f"Verdict: the network found {outcome}. ")
    assert ("this search did not pay" in text) != paid


@given(st.tuples(*[st.floats(0, 100)] * 3))
def test_the_table_has_one_row_per_network_in_columns(scores):
    head, *rows = table(results(*scores))
    assert head.split() == ["parameters", "BLEU", "chrF", "exact", "(%)"]
    assert len({len(row) for row in (head, *rows)}) == 1
    for row, name, bleu in zip(rows, NETWORKS.values(), scores):
        assert row.startswith(name)
        assert row[len(name) :].split() == ["1,000", f"{bleu:.2f}", "50.00", "1.2"]


def test_paths_start_in_the_current_folder_if_they_can(tmp_path, monkeypatch):
    inside, work = tmp_path / "in side", tmp_path / "in side/work"
    work.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert shown(work / "a file") == "'work/a file'"
    assert shown(tmp_path / "other") == str(tmp_path / "other")


def test_the_architecture_in_words(tmp_path):
    file = tmp_path / "genotype.json"
    file.write_text('{"encoder": [["ffn", "zero"], ["glu", "ffn"]], "decoder": [["glu", "x"]]}')
    assert list(architecture(file)) == [
        "  encoder layer 1: ffn, zero",
        "  encoder layer 2: glu, ffn",
        "  decoder layer 1: glu, x",
    ]
