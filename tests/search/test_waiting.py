"""An update of a search waits for a GPU once, with the numbers of both levels."""

import pytest
from fairseq.logging import metrics
from running import SEARCH
from stand_in import BACKPROP_ON_META, SearchOnDevice, Waits

#: What an update waits for: `to_host` says why. fairseq itself waits several times.
ALLOWED = ["processes.to_host"]
#: The flags of each strategy; with those of elimination, too, alpha moves from the start.
FLAGS_OF = {
    "darts": ["--search-strategy=darts"],
    "sampling": ["--search-strategy=sampling"],
    "elimination": ["--search-strategy=elimination", "--warmup-share=0"],
    "evolution": ["--search-strategy=evolution"],
}
FLAGS = [
    *(*SEARCH, "--encoder-layers=1", "--decoder-layers=1", "--cell-layers=1"),
    *("--drift-interval=50", "--drift-limit=1", "--log-interval=50"),
    "--batch-size=12",  # some of the same length, others padded
]


def check(data, folder, *flags):
    with metrics.aggregate("search", new_root=True), Waits() as waits:
        search = SearchOnDevice(data, folder, *FLAGS, *flags)
        search.update()  # reads where the search stands
        for _ in range(2):
            waits.places.clear()
            search.update()
            assert waits.places == ALLOWED
    assert {inputs["source_padded"] for inputs in search.seen} == {True, False}


@pytest.mark.parametrize("backprop", BACKPROP_ON_META)
@pytest.mark.parametrize("strategy", FLAGS_OF)
def test_an_update_waits_for_the_device_once(data, tmp_path, strategy, backprop):
    check(data, tmp_path, *FLAGS_OF[strategy], f"--backprop={backprop}")


def test_an_update_in_half_precision_waits_once_for_all_its_batches(data, tmp_path):
    check(data, tmp_path, "--fp16", "--fp16-no-flatten-grads", "--update-freq=2")


@pytest.mark.parametrize("strategy", ["darts", "elimination"])
def test_an_update_with_a_budget_waits_once(data, tmp_path, strategy):
    budget = ["--cost=parameters", "--cost-limit=1e9"]
    check(data, tmp_path, *FLAGS_OF[strategy], *budget)
