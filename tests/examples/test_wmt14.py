"""The scripts of WMT'14 from archives to scores, on a small corpus in the same layout."""

import hashlib
import re
import sys

import pytest
from archives import archive, segments
from running import CHECKOUT, SHORT_EXPERIMENT, run

WMT14 = CHECKOUT / "examples/wmt14"
#: The text in the archives.
CORPORA = {
    "training-parallel-europarl-v7.tgz": "training/europarl-v7.{other}-en.{side}",
    "training-parallel-commoncrawl.tgz": "commoncrawl.{other}-en.{side}",
    "training-parallel-nc-v9.tgz": "training/news-commentary-v9.{other}-en.{side}",
    "training-parallel-un.tgz": "un/undoc.2000.{other}-en.{side}",
    "training-giga-fren.tar": "giga-fren.release2.fixed.{side}.gz",
}
TEST_SETS = {
    "test.tgz": ("valid", "test/newstest2013-src.{side}.sgm"),
    "test-full.tgz": ("test", "test-full/newstest2014-{other}en-{role}.{side}.sgm"),
}


def as_sgm(text):
    return f'<srcset setid="s">\n<doc docid="d">\n<p>\n{segments(text)}</p>\n</doc>\n</srcset>\n'


def write_archives(raw, folder):
    """The archives of all pairs; whatever the language, the text is the same French."""

    def text(split, side):
        return (raw / f"raw/{split}.{'en' if side == 'en' else 'fr'}").read_text()

    for name, member in CORPORA.items():
        members = {}
        for other in ("de", "fr", "cs"):
            for side in ("en", other):
                lines = text("train", side).splitlines(keepends=True)[:100]
                # One pair is empty, one is too unequal.
                lines += ["\n", "one\n" if side == "en" else "un deux trois\n"]
                members[member.format(other=other, side=side)] = "".join(lines)
                members[f"._{member}"] = "from a Macintosh"
        archive(folder / name, members)
    for name, (split, member) in TEST_SETS.items():
        members = {}
        for other in ("de", "fr", "cs"):
            for side, role in (("en", "src"), (other, "ref"), ("en", "ref"), (other, "src")):
                right = (side == "en") == (role == "src") or split == "valid"
                sgm = as_sgm(text(split, side) if right else "wrong side\n")
                members[member.format(other=other, side=side, role=role)] = sgm
        archive(folder / name, members)
    for number in range(2):
        columns = zip(text("train", "cs").splitlines()[:30], text("train", "en").splitlines())
        lines = [f"{n}\t0.9\t{czech}\t{english}\n" for n, (czech, english) in enumerate(columns)]
        members = {"data.plaintext-format/00train.gz": "".join(lines)}
        archive(folder / f"data-plaintext-format.{number}.tar", members)


@pytest.fixture(scope="module")
def archives(raw, tmp_path_factory):
    """A folder of archives, and the list of corpora with their checksums and addresses."""
    folder = tmp_path_factory.mktemp("archives")
    write_archives(raw, folder)
    rows = []
    for row in (WMT14 / "corpora.txt").read_text().splitlines():
        if not row.startswith("#"):
            address = row.split()[4]
            path = folder / address.split("/")[-1]
            algorithm = row.split()[3].split(":")[0]
            found = hashlib.new(algorithm, path.read_bytes()).hexdigest()
            row = re.sub(r"\S+:\S+ \S+ ", f"{algorithm}:{found} file://{path} ", row, count=1)
        rows.append(row)
    (folder / "corpora.txt").write_text("\n".join(rows) + "\n")
    return folder


def script(name, pair, work, *arguments, fails=False, **environment):
    environment = {
        "WORK": str(work),
        **SHORT_EXPERIMENT,
        **environment,
    }
    return run("bash", WMT14 / f"{name}.sh", pair, *arguments, env=environment, fails=fails)


def lines(path):
    return path.read_text().splitlines()


def test_the_listed_corpora_have_checksums():
    rows = [row for row in lines(WMT14 / "corpora.txt") if not row.startswith("#")]
    assert len(rows) == len(CORPORA) + len(TEST_SETS)
    for row in rows:
        use, languages, megabytes, checksum, address, _ = row.split()
        assert use in ("train", "valid", "test") and set(languages.split(",")) <= {"de", "fr", "cs"}
        assert int(megabytes) > 0 and address.startswith("https://www.statmt.org/wmt1")
        assert re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", checksum)


def test_from_the_archives_to_scores(raw, archives, tmp_path):
    """The archives are downloaded, one of them from where an interruption stopped."""
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    (downloads / "test.tgz.part").write_bytes((archives / "test.tgz").read_bytes()[:1000])
    output = script("prepare", "en-de", tmp_path, CORPORA=archives / "corpora.txt")
    assert (downloads / "test.tgz").read_bytes() == (archives / "test.tgz").read_bytes()
    assert "estimate for en-de: 1674 MB" in output
    assert read_pairs(output, tmp_path / "en-de/raw/train.de") == 306
    assert "3 pairs empty" in output and "pairs too unequal" in output
    for split in ("valid", "test"):
        for language, original in (("en", "en"), ("de", "fr")):
            expected = lines(raw / f"raw/{split}.{original}")
            assert lines(tmp_path / f"en-de/raw/{split}.{language}") == expected

    two = "--cpu --num-workers 0 --disable-validation --distributed-backend gloo"
    flags = f"{two} --ddp-backend legacy_ddp --update-freq 1"
    output = script("search", "en-de", tmp_path, GPUS="2", FLAGS=flags)
    assert re.search(r"estimate: 0\.\d M parameters, 2 updates of 800 tokens \(2 x 400", output)
    assert "operations per second, measured on this CPU" in output
    assert "encoder.1.1" in script("derive", "en-de", tmp_path)
    script("train", "en-de", tmp_path)
    output = script("generate", "en-de", tmp_path)
    assert "the average of checkpoint_1_1.pt, checkpoint_1_2.pt" in output
    assert re.search(r"BLEU = .*\n +signature: nrefs:1.*tok:13a", output)
    assert "tokenised BLEU = " in output and "parameters = " in output
    (summary,) = (tmp_path / "en-de").rglob("summary.txt")
    assert re.match(r"found: parameters = .*, BLEU = .*, tokenised BLEU = ", summary.read_text())
    assert "done before" in script("train", "en-de", tmp_path)


def read_pairs(output, clean):
    """How many training pairs were read; those kept are in `clean`."""
    found = re.findall(r"(\d+) pairs ([a-z ]+)", re.search(r"raw/train: .*", output)[0])
    counts = {name: int(count) for count, name in found}
    assert len(lines(clean)) == counts["kept"]
    return sum(counts.values())


@pytest.mark.parametrize(("pair", "pairs"), [("en-fr", 510), ("en-cs", 366)])
def test_other_pairs_have_corpora_of_their_own(archives, tmp_path, pair, pairs):
    source = ["--source-dir", archives]
    output = script("prepare", pair, tmp_path, *source, CORPORA=archives / "corpora.txt")
    assert read_pairs(output, tmp_path / pair / f"raw/train.{pair[3:]}") == pairs


@pytest.mark.parametrize(
    ("name", "arguments", "environment", "message"),
    [
        ("prepare", ["en-es"], {}, "pair 'en-es': en-de, en-fr or en-cs is needed"),
        ("prepare", ["en-de", "--source"], {}, "--source: --source-dir DIR is all that may follow"),
        ("search", ["en-de", "small"], {}, "size 'small': base or big is needed"),
        ("train", ["en-de"], {"NETWORK": "random"}, "NETWORK=random: found, random:SEED"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, name, arguments, environment, message):
    output = script(name, arguments[0], tmp_path, *arguments[1:], **environment, fails=True)
    assert message in output
    assert not any(tmp_path.iterdir())


def test_what_is_not_there_or_damaged_is_named(archives, tmp_path):
    output = script("search", "en-de", tmp_path, fails=True)
    assert "no data there; first bash examples/wmt14/prepare.sh en-de" in output
    source = ["--source-dir", tmp_path]
    output = script("prepare", "en-de", tmp_path, *source, fails=True)
    assert f"--source-dir {tmp_path}: no training-parallel-europarl-v7.tgz there" in output
    (tmp_path / "training-parallel-europarl-v7.tgz").write_text("damaged")
    output = script("prepare", "en-de", tmp_path, *source, fails=True)
    assert "training-parallel-europarl-v7.tgz: its sha256 checksum is" in output
    (tmp_path / "en-de/stages/binarise.done").touch()
    output = script("train", "en-de", tmp_path, fails=True)
    assert "first search.sh and derive.sh, or set GENOTYPE" in output
    output = script("train", "en-de", tmp_path, NETWORK="transformer", fails=True)
    assert "whose size the transformer takes" in output


def test_clean_refuses_texts_of_different_lengths(tmp_path):
    (tmp_path / "text.en").write_text("a\nb\n")
    (tmp_path / "text.de").write_text("a\n")
    clean = [sys.executable, CHECKOUT / "examples/clean.py", tmp_path / "text", tmp_path / "clean"]
    output = run(*clean, "--languages", "en", "de", fails=True)
    assert "text.de: fewer lines than in the other language" in output
