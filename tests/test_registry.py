"""Operations of one's own: where they are candidates, and which are refused."""

import re

import pytest
import torch
from helpers import build_model, settings

from fairseq_revdarts import register_operation
from fairseq_revdarts.modules.context import Context
from fairseq_revdarts.modules.operations import GatedLinearUnit, build_operation
from fairseq_revdarts.registry import OPERATIONS
from fairseq_revdarts.search_space import CANDIDATES


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """Let what a test registers end with it."""
    for table in (OPERATIONS, CANDIDATES):
        for key, value in table.items():
            monkeypatch.setitem(table, key, value)
    yield
    OPERATIONS.pop("mine", None)


def test_an_operation_is_a_candidate_and_wrapped_as_the_others():
    assert register_operation("mine")(GatedLinearUnit) is GatedLinearUnit
    assert all(names[-1] == "mine" for names in CANDIDATES.values())
    model = build_model()
    assert model.architecture.encoder.size(-1) == 14 and model.architecture.decoder.size(-1) == 15
    torch.manual_seed(0)
    mine = build_operation("mine", settings("encoder"))
    torch.manual_seed(0)
    glu = build_operation("glu", settings("encoder"))
    h = torch.randn(5, 2, 8)
    assert torch.equal(mine(h, Context()), glu(h, Context()))


def test_an_operation_of_one_side():
    register_operation("mine", sides=["encoder"])(GatedLinearUnit)
    assert "mine" in CANDIDATES["encoder"] and "mine" not in CANDIDATES["decoder"]


@pytest.mark.parametrize(
    ("name", "sides", "words"),
    [
        ("ffn", ["encoder"], "'ffn': an identifier is needed that is not one of conv_3"),
        ("my operation", ["encoder"], "'my operation': an identifier is needed"),
        ("mine", ["middle"], "sides ['middle']; they are a list of encoder, decoder"),
        ("mine", "encoder", "sides 'encoder'; they are a list of encoder, decoder"),
        ("mine", [], "sides []; they are a list of encoder, decoder"),
    ],
)
def test_what_does_not_fit_is_refused(name, sides, words):
    before = dict(OPERATIONS), dict(CANDIDATES)
    with pytest.raises(ValueError, match=re.escape(words)):
        register_operation(name, sides)
    assert before == (OPERATIONS, CANDIDATES)
