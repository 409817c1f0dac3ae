"""The search's flags: any value is one that a search can take, or an error that names the flag."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fairseq_revdarts.search.checks import NOT_WITH_A_SEARCH, check_search_flags
from fairseq_revdarts.search.config import BilevelSearchConfig, parse_betas

NUMBERS = ("alpha_split", "alpha_lr", "alpha_weight_decay", "drift_limit")
COUNTS = ("alpha_start", "stop_when_stable", "drift_interval")
FLAGS = {
    **dict.fromkeys(NUMBERS, st.floats()),
    **dict.fromkeys(COUNTS, st.integers()),
    "alpha_betas": st.text(max_size=12)
    | st.tuples(st.floats(), st.floats() | st.integers()).map(str)
    | st.recursive(st.integers(), lambda inner: st.lists(inner, max_size=3)).map(str),
    "data": st.text(max_size=12),
    "ddp_backend": st.sampled_from(["legacy_ddp", "c10d", "fully_sharded", "slowmo"]),
}


def check(**flags):
    others = {flag: usual for flag, (usual, _) in NOT_WITH_A_SEARCH.items()}
    others.update(ddp_backend="legacy_ddp", data="data", search_strategy="darts")
    check_search_flags(BilevelSearchConfig(**{**others, **flags}))


@settings(deadline=None, max_examples=300)
@given(st.fixed_dictionaries({}, optional=FLAGS))
@example({})
@example({"alpha_betas": "(" * 5000})
@example({"alpha_betas": "-" * 100_000 + "1"})
@example({"alpha_betas": f"(0.9, {10**400})"})
@example({"alpha_lr": math.inf})
def test_any_flags_are_usable_or_one_of_them_is_named(flags):
    try:
        check(**flags)
    except ValueError as error:
        names = [f"--{flag.replace('_', '-')} {flags[flag]}" for flag in flags if flag != "data"]
        names += [f"{flags.get('data')}: several data directories"]
        assert str(error).startswith(tuple(names))
        return
    betas = parse_betas(flags.get("alpha_betas", "(0.9, 0.98)"))
    assert all(0 <= beta < 1 for beta in betas)
    assert 0 < flags.get("alpha_split", 0.5) < 1
    for flag in ("alpha_lr", "alpha_weight_decay"):
        assert 0 <= flags.get(flag, 0) < math.inf
    assert all(flags.get(flag, 0) >= 0 for flag in (*COUNTS, "drift_limit"))


@pytest.mark.parametrize("flag", COUNTS)
def test_a_negative_count_is_named(flag):
    with pytest.raises(ValueError, match=f"--{flag.replace('_', '-')} -1: at least 0 is needed"):
        check(**{flag: -1})
