"""The scripts of IWSLT'14 from the archive to scores, on a small corpus in the same layout."""

import hashlib
import re

import pytest
from archives import archive, segments
from running import CHECKOUT, SHORT_EXPERIMENT, load, run

from fairseq_revdarts.utils.parameters import count_parameters

IWSLT14 = CHECKOUT / "examples/iwslt14"
TEST_SETS = ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")
#: Before the sentences of a talk.
HEAD = "<url>http://x</url>\n<keywords>a, b</keywords>\n<talkid>1</talkid>\n"
#: One side is empty, both are too long, one is twice as long in words, in tokens. The last stays.
ODD = (
    *(("", "Nothing"), ("x " * 176, "y " * 176), ("a b", "a b c d")),
    *(("eins zwei", "one, two."), ("zwei drei", "two, three")),
)
TRAINING_PAIRS, TEST_PAIRS = 300 + 1 + len(ODD), 13


def text(raw, split, language):
    """Sentences of the quick start's corpus, whose French stands in for German."""
    name = {"de": "fr", "en": "en"}[language]
    return (raw / f"raw/{split}.{name}").read_text().splitlines()


def write_files(raw, folder):
    """The names and texts of the files in the archive."""
    members = {"de-en/README": "a talk", "de-en/train.en": "not parallel\n"}
    for side, language in enumerate(("de", "en")):
        odd = [pair[side] for pair in ODD]
        title = ["<title>Ein Titel: Now</title>"]
        body = [*title, *(f" {line}" for line in text(raw, "train", language)), *odd]
        members[f"de-en/train.tags.de-en.{language}"] = HEAD + "".join(f"{x}\n" for x in body)
        members[f"de-en/._train.tags.de-en.{language}"] = "from a Macintosh"
        lines = text(raw, "test", language)
        for number, name in enumerate(TEST_SETS):
            part = "\n".join(lines[3 * number : 3 * number + 3])
            xml = f"<doc docid='1'>\n<title>Not a segment</title>\n{segments(part)}</doc>\n"
            members[f"de-en/IWSLT14.{name}.de-en.{language}.xml"] = xml
    archive(folder / "de-en.tgz", members)
    return members


@pytest.fixture(scope="module")
def source(raw, tmp_path_factory):
    """A folder with the archive and a list that has its checksum, address and numbers of pairs."""
    folder = tmp_path_factory.mktemp("source")
    write_files(raw, folder)
    found = hashlib.md5((folder / "de-en.tgz").read_bytes()).hexdigest()
    row = f"train de 1 md5:{found} file://{folder}/de-en.tgz {TRAINING_PAIRS},{TEST_PAIRS}\n"
    (folder / "corpora.txt").write_text(row)
    return folder


def script(name, work, *arguments, fails=False, **environment):
    environment = {
        "WORK": str(work),
        **SHORT_EXPERIMENT,
        "TRANSFORMER": "transformer_tiny",
        "LAYERS": "2",
        **environment,
    }
    return run("bash", IWSLT14 / f"{name}.sh", *arguments, env=environment, fails=fails)


def lines(path):
    return path.read_text().splitlines()


def count(folder):
    return count_parameters(load(folder / "checkpoint_last.pt")["model"])


def test_the_corpus_has_a_checksum_and_numbers_of_pairs():
    (row,) = (row for row in lines(IWSLT14 / "corpora.txt") if not row.startswith("#"))
    assert re.fullmatch(r"train de \d+ md5:[0-9a-f]{32} http://\S+/de-en.tgz 174443,6750", row)


def test_from_the_archive_to_scores(raw, source, tmp_path):
    """The archive is downloaded from where an interruption stopped."""
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    (downloads / "de-en.tgz.part").write_bytes((source / "de-en.tgz").read_bytes()[:1000])
    output = script("prepare", tmp_path, CORPORA=source / "corpora.txt")
    assert (downloads / "de-en.tgz").read_bytes() == (source / "de-en.tgz").read_bytes()
    assert "1 pairs empty" in output and "1 pairs too long" in output
    check_division(raw, tmp_path)

    output = script("search", tmp_path)
    assert re.search(r"estimate: 0\.\d M parameters, 2 updates of 400 tokens \(1 x 400", output)
    assert "encoder.1.1" in script("derive", tmp_path)
    script("train", tmp_path, NETWORK="transformer")
    script("train", tmp_path)
    found = load(tmp_path / "found/checkpoint_last.pt")["cfg"]["model"]
    assert found["share_decoder_input_output_embed"] and not found["share_all_embeddings"]
    sizes = [count(tmp_path / name) for name in ("found", "transformer")]
    assert abs(sizes[0] / sizes[1] - 1) < 0.02
    output = script("generate", tmp_path)
    assert "the average of checkpoint_1_1.pt, checkpoint_1_2.pt" in output
    assert re.search(r"BLEU = .*\n +signature: nrefs:1\|case:lc.*tok:13a", output)
    assert "tokenised BLEU = " in output and "parameters = " in output
    summary = (tmp_path / "summary.txt").read_text()
    assert re.fullmatch(r"found: parameters = .*, BLEU = .*, tokenised BLEU = .*\n", summary)
    assert "done before" in script("train", tmp_path)


def check_division(raw, work):
    """What fairseq's script makes of the files: limits of length, every 23rd pair, lower case."""
    for language in ("de", "en"):
        kept = lines(work / f"text/clean.{language}")
        assert kept[0] == "ein titel: now"
        assert kept[-1] == {"de": "zwei drei", "en": "two, three"}[language]
        original = {line.lower() for line in text(raw, "train", language)}
        assert set(kept[1:-1]) <= original and len(kept) > 200
        assert lines(work / f"raw/valid.{language}") == kept[22::23]
        del kept[22::23]
        assert lines(work / f"raw/train.{language}") == kept
        expected = [line.lower() for line in text(raw, "test", language)]
        assert lines(work / f"raw/test.{language}") == expected


def test_extracted_files_need_no_archive(raw, source, tmp_path):
    folder = tmp_path / "files"
    for name, content in write_files(raw, source).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    arguments = ["--source-dir", folder]
    script("prepare", tmp_path / "work", *arguments, CORPORA=source / "corpora.txt")
    check_division(raw, tmp_path / "work")
    (folder / "de-en/IWSLT14.TED.tst2011.de-en.en.xml").write_text(segments("too few"))
    output = script(
        "prepare", tmp_path / "again", *arguments, fails=True, CORPORA=source / "corpora.txt"
    )
    assert "raw/test, not 13; this is not IWSLT'14 de-en as fairseq takes it" in output
    (folder / "de-en/IWSLT14.TED.tst2011.de-en.en.xml").unlink()
    output = script(
        "prepare", tmp_path / "again", *arguments, fails=True, CORPORA=source / "corpora.txt"
    )
    assert "IWSLT14.TED.tst2011.de-en.en.xml: not there; the archive de-en.tgz" in output


@pytest.mark.parametrize(
    ("name", "arguments", "environment", "message"),
    [
        ("prepare", ["de-en"], {}, "de-en: no such argument. usage: bash examples/iwslt14/prepare"),
        ("search", ["base"], {}, "base: no such argument. usage"),
        ("train", [], {"NETWORK": "evolved_transformer"}, "NETWORK=evolved_transformer: found, "),
    ],
)
def test_wrong_arguments_are_named(tmp_path, name, arguments, environment, message):
    assert message in script(name, tmp_path, *arguments, **environment, fails=True)
    assert not any(tmp_path.iterdir())


def test_what_is_not_there_or_damaged_is_named(tmp_path):
    output = script("search", tmp_path, fails=True)
    assert "no data there; first bash examples/iwslt14/prepare.sh" in output
    arguments = ["--source-dir", tmp_path]
    output = script("prepare", tmp_path, *arguments, fails=True)
    assert f"--source-dir {tmp_path}: no de-en.tgz there; it comes from http://" in output
    (tmp_path / "de-en.tgz").write_text("damaged")
    output = script("prepare", tmp_path, *arguments, fails=True)
    assert "de-en.tgz: its md5 checksum is" in output
    (tmp_path / "stages/binarise.done").touch()
    output = script("train", tmp_path, fails=True)
    assert "first search.sh and derive.sh, or set GENOTYPE" in output
