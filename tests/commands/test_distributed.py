"""Several processes search together: all hold the same theta and alpha, as one would alone."""

import sys

import pytest
import torch
from processes import free_port, train_together
from running import CHECKOUT, SEARCH, run

from fairseq_revdarts.genotype import load_genotype

#: Of 20 pairs 11 update theta and 9 alpha: 3 batches each, so that the second process has fewer.
SMALL = [
    *SEARCH,
    f"--user-dir={CHECKOUT / 'tests/recording'}",
    *("--train-subset=valid", "--batch-size=4", "--no-epoch-checkpoints"),
]
LEGACY = "--ddp-backend=legacy_ddp"


def recorded(folder):
    """Digests of theta and alpha after each update: all differ, and are the same in both."""
    first, second = ((folder / f"recorded-{rank}.txt").read_text().split() for rank in range(2))
    assert first == second
    assert len(set(first)) == len(first)
    return first


def model(folder):
    return torch.load(folder / "checkpoint_last.pt", weights_only=True)["model"]


@pytest.fixture(scope="module")
def legacy(data, tmp_path_factory):
    """Digests of a search of two processes, four updates, and its output."""
    folder = tmp_path_factory.mktemp("legacy")
    output = train_together(data, folder, *SMALL, LEGACY, "--max-update=4")
    return recorded(folder), output


def test_all_processes_hold_the_same_where_one_has_fewer_batches(legacy):
    digests, output = legacy
    assert len(digests) == 4
    assert "of 20 training pairs, 11 update theta and 9 update alpha" in output


def test_c10d_gives_what_legacy_ddp_gives(data, tmp_path, legacy):
    train_together(data, tmp_path, *SMALL, "--ddp-backend=pytorch_ddp", "--max-update=4")
    assert recorded(tmp_path) == legacy[0]


def test_flags_of_c10d_change_nothing(data, tmp_path, legacy):
    flags = ["--ddp-backend=pytorch_ddp", "--gradient-as-bucket-view", "--broadcast-buffers"]
    flags += ["--bucket-cap-mb=1", "--fast-stat-sync", "--max-update=2"]
    train_together(data, tmp_path, *SMALL, *flags)
    assert recorded(tmp_path) == legacy[0][:2]


def test_update_freq_of_two_in_two_processes(data, tmp_path):
    """One process has two micro-batches, the other one and a dummy."""
    folders = [tmp_path / backend for backend in ("legacy_ddp", "pytorch_ddp")]
    for folder in folders:
        flags = [*SMALL, "--update-freq=2", f"--ddp-backend={folder.name}", "--max-update=3"]
        train_together(data, folder, *flags)
    one, other = map(recorded, folders)
    assert one == other


def test_two_processes_resume(data, tmp_path, legacy):
    for updates in (2, 4):
        train_together(data, tmp_path, *SMALL, LEGACY, f"--max-update={updates}")
    assert recorded(tmp_path) == legacy[0]


def test_two_processes_give_what_one_gives(data, tmp_path):
    """The same sentences in an update: one process takes two batches where two take one each."""
    flags = [*SMALL, LEGACY, "--alpha-split=0.4", "--batch-size=2", "--dropout=0", "--max-update=4"]
    flags += ["--optimizer=sgd", "--lr-scheduler=fixed", "--lr=0.1"]
    train_together(data, tmp_path / "two", *flags)
    train_together(data, tmp_path / "one", *flags, "--update-freq=2", processes=1)
    two, one = model(tmp_path / "two"), model(tmp_path / "one")
    assert one["architecture.data_position"].tolist() == [3, 0, 0]
    assert two["architecture.data_position"].tolist() == [3, 0, 0]
    for name, value in one.items():
        if not name.endswith(("_float_tensor", "drift")):
            torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "flags",
    [
        ["--ddp-backend=pytorch_ddp"],
        [LEGACY],
        [LEGACY, "--grouped-shuffling"],  # drops the odd batch of an epoch
        [LEGACY, "--update-freq=2"],
    ],
    ids=" ".join,
)
def test_two_processes_sample_the_same_paths(data, tmp_path, flags):
    """And mark the same best one in alpha before a checkpoint, that of each epoch too."""
    flags = [*SMALL, *flags, "--search-strategy=sampling", "--batch-size=4", "--max-update=4"]
    train_together(data, tmp_path, *flags)
    recorded(tmp_path)
    assert model(tmp_path)["architecture.encoder_step"] == 0
    load_genotype(str(tmp_path / "genotype.json"))


def test_two_processes_choose_the_path_that_one_chooses(data, tmp_path):
    """The same sentences in an update, and the same batches to compare the paths on."""
    flags = [*SMALL, LEGACY, "--search-strategy=sampling", "--alpha-split=0.4", "--batch-size=2"]
    flags += ["--dropout=0", "--max-update=2", "--seed=3"]
    train_together(data, tmp_path / "two", *flags)
    train_together(data, tmp_path / "one", *flags, "--update-freq=2", processes=1)
    one, two = (load_genotype(str(tmp_path / name / "genotype.json")) for name in ("one", "two"))
    assert one == two


def test_two_processes_eliminate_the_same_candidates(data, tmp_path):
    """With both backends, where an update leaves idle candidates without gradients."""
    flags = [*SMALL, "--search-strategy=elimination", "--max-update=6"]
    flags += ["--warmup-share=0.2", "--elimination-share=(0.3, 0.9)", "--update-freq=2"]
    folders = [tmp_path / backend for backend in ("legacy_ddp", "pytorch_ddp")]
    for folder in folders:
        train_together(data, folder, *flags, f"--ddp-backend={folder.name}")
    one, other = map(recorded, folders)
    assert one == other
    for side in ("encoder", "decoder"):
        assert (model(folders[0])[f"architecture.{side}_living"].sum(-1) == 1).all()


def test_torchrun(data, tmp_path, legacy):
    command = (
        'fairseq-train "$@" --distributed-init-method env:// --distributed-world-size $WORLD_SIZE '
        "--distributed-rank $RANK --distributed-no-spawn"
    )
    run(
        *("torchrun", "--nproc-per-node=2", f"--master-port={free_port()}", "--no-python"),
        *("bash", "-c", command, "bash", data, *SMALL, LEGACY, f"--save-dir={tmp_path}"),
        *("--distributed-backend=gloo", "--max-update=2"),
    )
    assert recorded(tmp_path) == legacy[0][:2]


def test_fairseq_starts_its_own_processes(data, tmp_path, legacy):
    """One for each GPU that it sees: here it sees two."""
    command = (
        "import torch; torch.cuda.device_count = lambda: 2\n"
        "if __name__ == '__main__': from fairseq_cli.train import cli_main; cli_main()"
    )
    run(
        *(sys.executable, "-c", command, data, *SMALL, LEGACY, f"--save-dir={tmp_path}"),
        *("--distributed-world-size=2", "--distributed-backend=gloo", "--max-update=2"),
    )
    assert recorded(tmp_path) == legacy[0][:2]
