"""The search's log: a search that goes on writes no update twice, whatever cut it short."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fairseq_revdarts.search.log import SearchLog

#: Entries of different lengths, as the search writes them.
ENTRIES = [
    {
        "update": 10 * number,
        "loss": 2.0 / number,
        "alpha_loss": None if number < 3 else 1.5 * 10**-number,
        "probabilities": {"encoder.1.1": {"conv_3": 0.25, "ffn": 0.75}},
    }
    for number in range(1, 6)
]


def write(path, entries, start=0):
    log = SearchLog(str(path), start)
    for entry in entries:
        log.write(entry)


def read(path):
    """Every line of the log as an object: none is torn, and none holds two."""
    lines = path.read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    return [json.loads(line) for line in lines]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "search.jsonl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("logs")


def test_each_entry_is_a_line(path):
    write(path, ENTRIES)
    assert read(path) == ENTRIES


def test_an_entry_is_in_the_file_as_soon_as_it_is_written(path):
    log = SearchLog(str(path), 0)
    assert read(path) == []
    for count, entry in enumerate(ENTRIES, start=1):
        log.write(entry)
        assert read(path) == ENTRIES[:count]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 60))
@example(0)
@example(30)
@example(29)
def test_entries_up_to_the_update_are_kept_and_later_ones_dropped(folder, update):
    path = folder / "kept.jsonl"
    write(path, ENTRIES)
    SearchLog(str(path), update)
    assert read(path) == [entry for entry in ENTRIES if entry["update"] <= update]


def test_a_new_search_empties_an_old_log(path):
    write(path, ENTRIES)
    write(path, ENTRIES[2:], start=0)
    assert read(path) == ENTRIES[2:]


def test_nothing_but_the_log_is_left_in_the_folder(path):
    write(path, ENTRIES)
    write(path, ENTRIES[3:], start=30)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_log_cut_at_any_byte_goes_on_without_a_gap_that_it_hides(folder, data):
    path = folder / "cut.jsonl"
    write(path, ENTRIES)
    whole = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    near_an_end = st.sampled_from(ends).flatmap(lambda end: st.integers(end - 2, end + 1))
    cut = data.draw(st.integers(0, len(whole)) | near_an_end)
    update = data.draw(st.sampled_from([0, *(entry["update"] for entry in ENTRIES)]))
    path.write_bytes(whole[:cut])

    log = SearchLog(str(path), update)
    kept = read(path)
    assert kept == ENTRIES[: len(kept)]
    finished = [entry for entry, end in zip(ENTRIES, ends) if end <= cut]
    assert len(kept) >= len([entry for entry in finished if entry["update"] <= update])
    assert all(entry["update"] <= update for entry in kept)

    later = [entry for entry in ENTRIES if entry["update"] > update]
    for entry in later:
        log.write(entry)
    assert read(path) == kept + later


JUNK = {
    "torn line": b'{"update": 30, "lo',
    "torn line, then a newline": b'{"update": 30, "lo\n',
    "empty line": b"\n",
    "words": b"Traceback (most recent call last):\n",
    "zeros": b"\0" * 64,
    "not UTF-8": b"\xff\xfe\n",
    "half a character": b'{"update": 30, "loss": "\xc3',
    "a number": b"12\n",
    "null": b"null\n",
    "text": b'"update"\n',
    "a list": b'["update", 12]\n',
    "an empty object": b"{}\n",
    "no update": b'{"loss": 2.0}\n',
    "update that is text": b'{"update": "30"}\n',
    "update that is null": b'{"update": null}\n',
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_what_is_no_entry_is_dropped_with_all_after_it(path, junk):
    write(path, ENTRIES[:2])
    with open(path, "ab") as file:
        file.write(junk + b'{"update": 30}\n')
    log = SearchLog(str(path), 40)
    assert read(path) == ENTRIES[:2]
    log.write(ENTRIES[4])
    assert read(path) == [*ENTRIES[:2], ENTRIES[4]]


def test_a_log_in_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(OSError, match="missing"):
        SearchLog(str(tmp_path / "missing" / "search.jsonl"), 0)
