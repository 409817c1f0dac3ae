"""The genotype file: what is written is read back, and all damage is one kind of error."""

import json

import pytest
from genotype_files import DOCUMENTED, documented, moderate
from helpers import genotypes
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fairseq_revdarts import genotype as module
from fairseq_revdarts.genotype import Genotype, GenotypeError, load_genotype
from fairseq_revdarts.search_space import CANDIDATES

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def flaw(content):
    """The message of the GenotypeError that reading `content` raises."""
    with pytest.raises(GenotypeError) as error:
        Genotype.from_json(content if isinstance(content, str) else json.dumps(content))
    return str(error.value)


# ------------------------------------------------------------------------------- round trips


@moderate
@given(genotypes())
def test_json_round_trip(genotype):
    text = genotype.to_json()
    assert "\n" not in text
    assert Genotype.from_json(text) == genotype
    assert load_genotype(text) == genotype


@moderate
@given(genotypes())
def test_file_round_trip(tmp_path_factory, genotype):
    path = str(tmp_path_factory.getbasetemp() / "genotype.json")
    genotype.save(path)
    assert load_genotype(path) == genotype


def test_the_documented_file_is_read_and_written_with_its_keys():
    genotype = Genotype.from_json(DOCUMENTED)
    assert genotype.pooling == "max"
    assert genotype.encoder == (("ffn", "self_attention"), ("conv_3", "dynamic_conv_7"))
    assert genotype.decoder[1] == ("glu", "cross_attention", "cross_attention")
    assert json.loads(genotype.to_json()) == json.loads(DOCUMENTED)


def test_a_genotype_that_ships_is_loaded_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHIPPED", tmp_path)
    genotype = Genotype.from_json(DOCUMENTED)
    genotype.save(str(tmp_path / "found-once.json"))
    assert load_genotype("found-once") == genotype
    with pytest.raises(GenotypeError, match=r"found-twice.*found-once"):
        load_genotype("found-twice")


# ------------------------------------------------------------------------------- damage

DAMAGE = {
    "unknown operation of the encoder": (
        documented(encoder=[["ffn", "self_attention"], ["conv_4", "ffn"]]),
        ["encoder, layer 2", "'conv_4'", "conv_3", "identity"],
    ),
    "unknown operation of the decoder": (
        documented(decoder=[["FFN", "ffn", "cross_attention"], ["ffn"] * 3]),
        ["decoder, layer 1", "'FFN'", "ffn", "cross_attention"],
    ),
    "cross-attention in the encoder": (
        documented(encoder=[["ffn", "cross_attention"], ["ffn", "ffn"]]),
        ["encoder, layer 1", "'cross_attention'"],
    ),
    "last decoder split": (
        documented(decoder=[["ffn", "ffn", "cross_attention"], ["ffn", "ffn", "glu"]]),
        ["decoder, layer 2", "last split", "'glu'", "cross_attention"],
    ),
    "other splits in a layer of the encoder": (
        documented(encoder=[["ffn", "ffn"], ["ffn", "ffn", "ffn"]]),
        ["encoder, layer 2", "3 splits", "layer 1 has 2"],
    ),
    "other splits in a layer of the decoder": (
        documented(decoder=[["ffn", "ffn", "cross_attention"], ["ffn", "cross_attention"]]),
        ["decoder, layer 2", "2 splits", "layer 1 has 3"],
    ),
    "one split in the encoder": (
        documented(encoder=[["ffn"], ["ffn"]]),
        ["encoder, layer 1", "1 splits", "at least 2"],
    ),
    "one split in the decoder": (
        documented(decoder=[["cross_attention"], ["cross_attention"]]),
        ["decoder, layer 1", "1 splits", "at least 2"],
    ),
    "no splits": (documented(encoder=[[], []]), ["encoder, layer 1", "0 splits", "at least 2"]),
    "no layers in the encoder": (documented(encoder=[]), ["encoder", "no layers"]),
    "no layers in the decoder": (documented(decoder=[]), ["decoder", "no layers"]),
    "more layers in the encoder": (
        documented(decoder=[["ffn", "cross_attention"]]),
        ["encoder's cell has 2", "decoder's 1"],
    ),
    "a cell that is no list": (documented(encoder="ffn"), ["encoder", "list of layers"]),
    "a layer that is no list": (documented(decoder=["ffn", "ffn"]), ["decoder", "list"]),
    "unknown pooling": (documented(pooling="median"), ["pooling", "'median'", "max, avg"]),
    "pooling of another case": (documented(pooling="Max"), ["pooling", "'Max'", "max, avg"]),
    "wrong format": (documented(format="genotype"), ['"format": "revdarts-genotype"']),
    "version of the future": (documented(version=2), ["version", "2", "reads version 1"]),
    "version as text": (documented(version="1"), ["version", "'1'", "reads version 1"]),
    "version as truth": (documented(version=True), ["version", "True", "reads version 1"]),
    "version with a fraction": (documented(version=1.0), ["version", "1.0", "reads version 1"]),
    "no version": (documented(version=None), ["version", "None", "reads version 1"]),
    "unknown key": (documented(seed=1), ["unknown keys", "seed"]),
    "not JSON": ("genotype", ["not JSON"]),
    "empty": ("", ["not JSON"]),
    "cut short": (DOCUMENTED[: len(DOCUMENTED) // 2], ["not JSON"]),
    "two in one file": (DOCUMENTED + DOCUMENTED, ["not JSON"]),
    "nested without end": ("[" * 100_000, ["not JSON"]),
    "a list": ("[]", ["not a genotype", '"format"']),
    "null": ("null", ["not a genotype", '"format"']),
    "a number": ("1", ["not a genotype", '"format"']),
    "an empty object": ("{}", ["not a genotype", '"format"']),
}


@pytest.mark.parametrize(("content", "words"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named(content, words):
    message = flaw(content)
    for word in words:
        assert word in message


@pytest.mark.parametrize("key", sorted(json.loads(DOCUMENTED)))
def test_a_missing_key_is_named(key):
    content = documented()
    del content[key]
    assert key in flaw(content)


def test_a_number_too_long_for_python_is_no_genotype():
    assert flaw('{"format": "revdarts-genotype", "version": ' + "1" * 10_000 + "}")


@moderate
@given(genotypes(), st.data())
def test_each_operation_is_checked(genotype, data):
    content = json.loads(genotype.to_json())
    side = data.draw(st.sampled_from(sorted(CANDIDATES)))
    layer = data.draw(st.integers(0, len(content[side]) - 1))
    split = data.draw(st.integers(0, len(content[side][layer]) - 1))
    content[side][layer][split] = "conv_13"
    message = flaw(content)
    assert f"{side}, layer {layer + 1}:" in message
    assert "'conv_13'" in message


@moderate
@given(json_values)
@example([["ffn", {}]])
def test_any_json_is_a_genotype_error(value):
    flaw(json.dumps(value))


PLACES = [
    *((key,) for key in json.loads(DOCUMENTED)),
    *((side, layer) for side in CANDIDATES for layer in (0, 1)),
    *((side, layer, split) for side in CANDIDATES for layer in (0, 1) for split in (0, -1)),
]


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(PLACES), json_values)
@example(("encoder",), [["ffn", {}]])
@example(("encoder", 0, 0), [])
@example(("decoder", 1, -1), {"cross_attention": 1})
@example(("decoder", 0, 0), None)
@example(("pooling",), {})
@example(("format",), ["revdarts-genotype"])
def test_any_json_in_place_of_a_field_loads_or_is_a_genotype_error(place, value):
    content = documented()
    holder = content
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    try:
        genotype = Genotype.from_json(json.dumps(content))
    except GenotypeError as error:
        assert str(error)
    else:
        assert json.loads(genotype.to_json()) == content
