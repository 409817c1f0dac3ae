"""Use from Python: from_pretrained and translate, through fairseq's hub interface."""

import re
import shutil
from fractions import Fraction

import pytest
import torch
from running import GENERATE, TEST_SENTENCES, hypotheses, run, weights_only

import fairseq_revdarts

SHORT = {"max_len_a": 0, "max_len_b": 20}


@pytest.fixture
def arguments(data, raw):
    """What from_pretrained takes beside the model's folder."""
    return {
        "checkpoint_file": "checkpoint_last.pt",
        "data_name_or_path": data,
        "bpe": "sentencepiece",
        "sentencepiece_model": str(raw / "pieces/sentencepiece.model"),
    }


@pytest.mark.parametrize("network", ["retrained", "supernet"])
def test_translations_are_those_of_fairseq_generate(data, raw, request, arguments, network):
    if network == "retrained":
        folder = request.getfixturevalue("retrained")
    else:
        folder, _ = request.getfixturevalue("search")
    output = run(
        *("fairseq-generate", data, "--path", folder / "checkpoint_last.pt", *GENERATE),
        *("--beam=3", "--min-len=10", "--max-len-b=20"),  # shorter ones of the supernet are alike
        *("--bpe=sentencepiece", "--sentencepiece-model", arguments["sentencepiece_model"]),
    )
    expected = hypotheses(output, "D")
    sentences = (raw / "raw/test.en").read_text().splitlines()
    model = fairseq_revdarts.RevDartsTransformerModel.from_pretrained(folder, **arguments)
    how = {"beam": 3, "min_len": 10, **SHORT}
    translations = model.translate(sentences, **how)
    assert len(translations) == TEST_SENTENCES and len(set(translations)) > 5
    assert translations == [expected[number] for number in range(TEST_SENTENCES)]
    assert model.translate(sentences[0], **how) == translations[0]
    assert model.translate([], beam=3) == []


def test_one_folder_with_everything(data, raw, retrained, arguments, tmp_path):
    """Checkpoint, dictionaries and sentencepiece model under the names that fairseq looks for."""
    shutil.copy(retrained / "checkpoint_last.pt", tmp_path / "model.pt")
    shutil.copy(arguments["sentencepiece_model"], tmp_path / "sentencepiece.bpe.model")
    for dictionary in data.glob("dict.*.txt"):
        shutil.copy(dictionary, tmp_path)
    load = fairseq_revdarts.RevDartsTransformerModel.from_pretrained
    languages = {"source_lang": "en", "target_lang": "fr"}
    alone = load(tmp_path, bpe="sentencepiece", **languages)
    sentence = (raw / "raw/test.en").read_text().splitlines()[0]
    expected = load(retrained, **arguments).translate(sentence, **SHORT)
    assert alone.translate(sentence, **SHORT) == expected


@weights_only
def test_only_weights_are_loaded(retrained, arguments, tmp_path):
    """A checkpoint that would build other objects is refused."""
    checkpoint = torch.load(retrained / "checkpoint_last.pt", weights_only=True)
    torch.save({**checkpoint, "other": Fraction(1, 2)}, tmp_path / "checkpoint_last.pt")
    with pytest.raises(ValueError, match=r"checkpoint_last\.pt: not a readable") as refused:
        fairseq_revdarts.RevDartsTransformerModel.from_pretrained(tmp_path, **arguments)
    assert "fractions.Fraction" in str(refused.value.__cause__)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("model_name_or_path", "no/model", "model_name_or_path no/model: no such folder"),
        ("data_name_or_path", ".", "data_name_or_path .: no dict.LANGUAGE.txt in"),
        ("data_name_or_path", "no/data", "data_name_or_path no/data: no dict.LANGUAGE.txt in"),
        ("bpe", "sentencepice", "bpe sentencepice: unknown; it is one of"),
        ("sentencepiece_model", "no.model", "sentencepiece_model no.model: no such file"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(retrained, arguments, argument, value, message):
    given = {"model_name_or_path": retrained, **arguments, argument: value}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        fairseq_revdarts.RevDartsTransformerModel.from_pretrained(**given)
