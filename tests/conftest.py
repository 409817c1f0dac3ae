"""Fixtures for tests through fairseq's real commands: a small binarised corpus, a search on it."""

import sys
from pathlib import Path

import pytest
import torch
from running import CHECKOUT, RETRAIN, SEARCH, TEST_SENTENCES, run, train

TESTS = Path(__file__).parent


def pytest_addoption(parser):
    parser.addoption(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="where gradients, dropout, precision and memory are tested (default: cpu)",
    )


def pytest_configure(config):
    torch.set_num_threads(1)  # as the commands that tests start: sums depend on it
    if config.getoption("--device") == "cuda" and not torch.cuda.is_available():
        raise pytest.UsageError("--device cuda: no GPU is there; use --device cpu")


@pytest.fixture(scope="module")
def device(request):
    """Where a test makes its tensors and networks: a module takes it for all of its tests."""
    chosen = request.config.getoption("--device")
    if chosen == "cpu":
        yield chosen
    else:
        with torch.device(chosen):
            yield chosen


def pytest_collection_modifyitems(items):
    """Mark the tests that start fairseq's commands: -m "not commands" leaves them out."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in ("commands", "examples") or "raw" in item.fixturenames:
            item.add_marker(pytest.mark.commands)


@pytest.fixture(scope="session")
def raw(tmp_path_factory):
    """Raw text like the quick start's, a few hundred pairs of shorter numbers, and its pieces."""
    folder = tmp_path_factory.mktemp("corpus")
    run(sys.executable, CHECKOUT / "examples/quickstart/corpus.py", folder / "all", "--digits", 4)
    (folder / "raw").mkdir()
    for split, pairs in (("train", 300), ("valid", 20), ("test", TEST_SENTENCES)):
        for language in ("en", "fr"):
            lines = (folder / f"all/{split}.{language}").read_text().splitlines(keepends=True)
            (folder / f"raw/{split}.{language}").write_text("".join(lines[:pairs]))
    run(
        *(sys.executable, CHECKOUT / "examples/pieces.py", folder / "raw", folder / "pieces"),
        *("--languages", "en", "fr", "--vocabulary", 150),
    )
    return folder


@pytest.fixture(scope="session")
def data(raw):
    """The corpus binarised by fairseq-preprocess."""
    pieces = raw / "pieces"
    run(
        *("fairseq-preprocess", "--source-lang=en", "--target-lang=fr", "--joined-dictionary"),
        f"--trainpref={pieces}/train",
        f"--validpref={pieces}/valid",
        f"--testpref={pieces}/test",
        f"--destdir={raw}/data",
    )
    return raw / "data"


@pytest.fixture(scope="session")
def search(data, tmp_path_factory):
    """The folder of a search of six updates, and what it printed."""
    folder = tmp_path_factory.mktemp("search")
    output = train(data, folder, *SEARCH, updates=6)
    return folder, output


@pytest.fixture(scope="session")
def retrained(data, search, tmp_path_factory):
    """Folder of a network trained from the search's genotype, which is then moved away."""
    folder = tmp_path_factory.mktemp("retrained")
    genotype = folder / "genotype.json"
    run("revdarts-derive", search[0] / "checkpoint_last.pt", "-o", genotype)
    train(data, folder, *RETRAIN, f"--genotype={genotype}", updates=4)
    genotype.rename(folder / "moved.json")
    return folder
