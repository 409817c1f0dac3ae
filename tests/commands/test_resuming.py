"""What is exact when a search goes on, and what fairseq's --reset flags mean for alpha."""

import shutil
import sys

import pytest
import torch
from interrupt import same, state
from processes import start
from running import SEARCH, load, read_log, train_in_process

#: Of 20 pairs 14 update theta, in 7 batches, and 6 alpha, in 3.
SMALL = [
    *SEARCH,
    *("--train-subset=valid", "--batch-size=2", "--alpha-split=0.3", "--log-interval=1"),
    "--no-epoch-checkpoints",
]
ALPHA_LR = 0.05  # as SEARCH says


def search(data, folder, *flags, updates):
    output = folder.parent / f"{folder.name}.txt"
    flags = [f"--save-dir={folder}", *SMALL, f"--max-update={updates}", *flags]
    process = start(data, *flags, output=output)
    process.join()
    assert process.exitcode == 0, output.read_text()[-5000:]


def found(folder):
    """Updates, alpha's Adam steps, alpha's epoch and batches in it, and the logged updates."""
    result = state(folder)
    return (
        result["updates"]["num_updates"],
        int(result["model"]["architecture.encoder_step"]),
        result["model"]["architecture.data_position"].tolist()[:2],
        [entry["update"] for entry in read_log(folder / "search.jsonl")],
    )


@pytest.fixture(scope="module")
def five(data, tmp_path_factory):
    """A search of five updates: in the first epoch of theta's data, the second of alpha's."""
    folder = tmp_path_factory.mktemp("resuming") / "five"
    search(data, folder, updates=5)
    assert state(folder)["iterator"]["epoch"] == 1
    assert found(folder) == (5, 5, [2, 2], [1, 2, 3, 4, 5])
    return folder


def test_within_the_epochs_of_both_iterators_with_other_workers(data, five, tmp_path):
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    search(data, straight, updates=9)
    shutil.copytree(five, resumed)
    search(data, resumed, "--num-workers=2", updates=9)
    assert same(state(straight), state(resumed))


#: fairseq 0.12.2 fails if it goes on with the last batches of an epoch, which it would skip.
SKIPPING = pytest.param(
    "--skip-remainder-batch",
    marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="fairseq 0.12.2"),
)
OF_FAIRSEQ = [
    *(SKIPPING, "--grouped-shuffling", "--fix-batches-to-gpus"),
    *("--data-buffer-size=2", "--required-seq-len-multiple=4", "--sentence-avg"),
    *("--load-checkpoint-on-all-dp-ranks", "--upsample-primary=2", "--truncate-source"),
]


@pytest.mark.parametrize("flag", OF_FAIRSEQ)
def test_with_flags_of_fairseq_that_touch_data_and_checkpoints(data, tmp_path, flag):
    """Resumed within the first epoch, and within the second, of theta's seven batches."""
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    small = ["--encoder-layers=1", "--decoder-layers=1", "--cell-layers=1", "--update-freq=2", flag]
    for folder, stops in ((straight, (7,)), (resumed, (2, 5, 7))):
        for updates in stops:
            train_in_process(data, folder, *SMALL, *small, updates=updates)
    assert same(state(straight), state(resumed))


def test_in_half_precision_with_a_loss_scale_that_changes(data, tmp_path):
    """Of --fp16 itself fairseq's checkpoints hold the weights rounded to half precision."""
    flags = ["--memory-efficient-fp16", "--fp16-init-scale=16", "--fp16-scale-window=3"]
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    search(data, straight, *flags, updates=4)
    for updates in (2, 4):
        search(data, resumed, *flags, updates=updates)
    assert state(straight)["model"]["architecture.loss_scaler"].tolist()[0] > 3
    assert same(state(straight), state(resumed))


DIVIDES = [
    *("--seed=7", "--alpha-split=0.4", "--train-subset=train", "--upsample-primary=2"),
    "--truncate-source",
]
BATCHES = [
    *("--batch-size=3", "--max-tokens=300", "--required-batch-size-multiple=2"),
    *("--max-source-positions=99", "--max-target-positions=99", "--num-batch-buckets=2"),
]
FREE = [
    *("--update-freq=2", "--lr=0.01", "--clip-norm=1", "--dropout=0.2", "--label-smoothing=0.2"),
    *("--alpha-lr=0.01", "--alpha-weight-decay=0.1", "--alpha-betas=(0.8, 0.9)"),
    *("--alpha-start=2", "--stop-when-stable=99", "--drift-interval=1", "--drift-limit=0.2"),
    *("--backprop=store", "--log-interval=3", "--max-epoch=3"),
    *("--save-interval-updates=1", "--checkpoint-suffix="),
    *("--reset-lr-scheduler", "--reset-meters", "--optimizer-overrides={}"),
]


@pytest.mark.parametrize("flag", [*DIVIDES, *BATCHES])
def test_flags_that_must_not_change_within_an_epoch(data, five, tmp_path, flag):
    """Of the division, or of the batches in which the place in an epoch is counted."""
    folder = shutil.copytree(five, tmp_path / "copy")
    message = f"^{flag.replace('=', ' ')}( True)?: the search in .* or pass --reset-dataloader"
    with pytest.raises(ValueError, match=message):
        train_in_process(data, folder, *SMALL, flag, updates=6)
    assert same(state(folder), state(five))


def test_another_number_of_processes_must_not_go_on(data, five, tmp_path):
    """It divides the data as well: here the checkpoint says that there were two."""
    folder = shutil.copytree(five, tmp_path / "copy")
    checkpoint = load(folder / "checkpoint_last.pt")
    checkpoint["cfg"]["distributed_training"]["distributed_world_size"] = 2
    checkpoint["cfg"]["task"]["distributed_world_size"] = 2
    torch.save(checkpoint, folder / "checkpoint_last.pt")
    with pytest.raises(ValueError, match=r"^--distributed-world-size 1: the search in .* has 2"):
        train_in_process(data, folder, *SMALL, updates=6)


@pytest.mark.parametrize("flag", FREE)
def test_flags_that_may_change_within_an_epoch(data, five, tmp_path, flag):
    folder = shutil.copytree(five, tmp_path / "copy")
    train_in_process(data, folder, *SMALL, flag, updates=6)
    assert state(folder)["updates"]["num_updates"] == 6


def test_a_search_that_has_ended_stays_as_it_is(data, five, tmp_path):
    """fairseq would train one more update."""
    folder = shutil.copytree(five, tmp_path / "copy")
    train_in_process(data, folder, *SMALL, updates=5)
    assert same(state(folder), state(five))


@pytest.mark.parametrize("flag", ["--optimizer=sgd", "--criterion=label_smoothed_cross_entropy"])
def test_another_optimizer_or_criterion_needs_a_new_begin(data, five, tmp_path, flag):
    """fairseq itself refuses it."""
    folder = shutil.copytree(five, tmp_path / "copy")
    with pytest.raises(AssertionError, match="please reset the optimizer"):
        train_in_process(data, folder, *SMALL, flag, updates=6)
    train_in_process(data, folder, *SMALL, flag, "--reset-optimizer", updates=1)
    assert state(folder)["updates"]["num_updates"] == 1


STRATEGIES = ("darts", "sampling", "elimination", "evolution")
#: The strategies whose schedule follows from a flag.
SCHEDULES = {
    "--max-update=9": ("elimination", "evolution"),
    "--warmup-share=0.1": ("elimination",),
    "--elimination-share=(0.6, 1)": ("elimination",),
    "--active-share=0.5": (),
}
ONE_UPDATE = "--stop-time-hours=1e-9"


@pytest.fixture(scope="module", params=STRATEGIES)
def scheduled(request, data, tmp_path_factory):
    """By each strategy the first update of a search of ten: its folder, and its flags."""
    folder = tmp_path_factory.mktemp("resuming") / request.param
    flags = [*SMALL, f"--search-strategy={request.param}", ONE_UPDATE]
    train_in_process(data, folder, *flags, updates=10)
    return request.param, folder, flags


def test_another_strategy_needs_a_new_begin(data, scheduled, tmp_path):
    """Also the default one, as when the flag is forgotten."""
    strategy, saved, flags = scheduled
    folder = shutil.copytree(saved, tmp_path / "copy")
    others = [other for other in STRATEGIES if other != strategy]
    for other in others:
        message = f"--search-strategy {other}: the search in .* has {strategy}, .*--reset-optimizer"
        with pytest.raises(ValueError, match=message):
            train_in_process(data, folder, *flags, f"--search-strategy={other}", updates=10)
    assert same(state(folder), state(saved))
    flags = [*flags, f"--search-strategy={'elimination' if strategy == 'darts' else 'darts'}"]
    train_in_process(data, folder, *flags, "--reset-optimizer", updates=10)
    other = f"--finetune-from-model={saved / 'checkpoint_last.pt'}"
    train_in_process(data, tmp_path / "tuned", *flags, other, updates=10)
    for changed in (folder, tmp_path / "tuned"):
        assert state(changed)["updates"]["num_updates"] == 1
        (first,) = read_log(changed / "search.jsonl")
        assert first["alpha_entropy"] > 2.5  # what the other strategy had decided is forgotten


@pytest.mark.parametrize("flag", SCHEDULES)
def test_another_schedule_is_warned_of(data, scheduled, tmp_path, caplog, flag):
    strategy, saved, flags = scheduled
    folder = shutil.copytree(saved, tmp_path / "copy")
    train_in_process(data, folder, *flags, updates=10)
    assert "its schedule" not in caplog.text
    if "share" in flag and strategy != "elimination":
        with pytest.raises(ValueError, match=f"not with --search-strategy {strategy}, it is a fl"):
            train_in_process(data, folder, *flags, flag, updates=10)
        return
    train_in_process(data, folder, *flags, flag, updates=10)
    warned = f"{flag.replace('=', ' ')}: the search in {folder}/checkpoint_last.pt has "
    assert (warned in caplog.text) == (strategy in SCHEDULES[flag])
    assert state(folder)["updates"]["num_updates"] == 3


def test_a_checkpoint_from_before_the_strategies_goes_on(data, five, tmp_path):
    content = load(five / "checkpoint_last.pt")
    for flag in ("search_strategy", "warmup_share", "elimination_share"):
        del content["cfg"]["task"][flag]
    torch.save(content, tmp_path / "checkpoint_last.pt")
    train_in_process(data, tmp_path, *SMALL, updates=6)
    assert state(tmp_path)["updates"]["num_updates"] == 6


def test_without_the_state_of_the_optimizer(data, tmp_path):
    """fairseq would count updates from 0 again, and not say so."""
    train_in_process(data, tmp_path, *SMALL, "--no-save-optimizer-state", updates=2)
    log = (tmp_path / "search.jsonl").read_text()
    with pytest.raises(ValueError, match=r"--no-save-optimizer-state.*; pass --reset-optimizer"):
        train_in_process(data, tmp_path, *SMALL, updates=3)
    assert (tmp_path / "search.jsonl").read_text() == log
    train_in_process(data, tmp_path, *SMALL, "--reset-optimizer", updates=1)
    assert state(tmp_path)["updates"]["num_updates"] == 1


@pytest.fixture(scope="module")
def epoch(data, five, tmp_path_factory):
    """That search at the end of theta's first epoch, 7 updates: after 1 of alpha's 3 batches."""
    folder = tmp_path_factory.mktemp("resuming") / "epoch"
    shutil.copytree(five, folder)
    search(data, folder, updates=7)
    assert state(folder)["model"]["architecture.data_position"].tolist() == [3, 1, 2]
    return folder


@pytest.mark.parametrize("flag", BATCHES[:-1])  # fairseq has no buckets with NumPy 2
def test_flags_of_the_batches_may_change_between_epochs(data, epoch, tmp_path, flag):
    """alpha goes on after as many pairs of its six, as near as its batches allow."""
    folder = shutil.copytree(epoch, tmp_path / "copy")
    train_in_process(data, folder, *SMALL, flag, updates=8)
    position = state(folder)["model"]["architecture.data_position"].tolist()
    # Of two batches of three pairs, the first has the two pairs that alpha has seen.
    assert position == ([4, 0, 0] if flag == "--batch-size=3" else [3, 2, 4])


@pytest.mark.parametrize("flag", DIVIDES[:2])
def test_flags_of_the_division_may_not_change_between_epochs(data, epoch, tmp_path, flag):
    folder = shutil.copytree(epoch, tmp_path / "copy")
    with pytest.raises(ValueError, match=flag.replace("=", " ")):
        train_in_process(data, folder, *SMALL, flag, updates=8)
    train_in_process(data, folder, *SMALL, flag, "--reset-dataloader", updates=8)


@pytest.mark.parametrize(
    ("suffix", "flags"),
    [
        ("_x", ["--checkpoint-suffix=_x"]),
        ("_x", ["--checkpoint-suffix=_x", "--restore-file={folder}/checkpoint_last.pt"]),
        ("_other", ["--restore-file={folder}/checkpoint_last_other.pt"]),
    ],
)
def test_the_file_that_fairseq_restores_is_looked_at(data, five, tmp_path, suffix, flags):
    """However it is chosen: alpha never trains on pairs that trained theta."""
    (tmp_path / "copy").mkdir()
    shutil.copy(five / "checkpoint_last.pt", tmp_path / f"copy/checkpoint_last{suffix}.pt")
    flags = [flag.format(folder=tmp_path / "copy") for flag in flags]
    with pytest.raises(ValueError, match=rf"--seed 7: the search in .*_last{suffix}\.pt has 1"):
        train_in_process(data, tmp_path / "copy", *SMALL, *flags, "--seed=7", updates=6)
    assert len(list((tmp_path / "copy").iterdir())) == 1


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], (6, 6, [3, 0], [1, 2, 3, 4, 5, 6])),
        (["--reset-optimizer"], (1, 1, [3, 0], [1])),
        (["--reset-dataloader"], (6, 6, [1, 1], [1, 2, 3, 4, 5, 6])),
        (["--reset-optimizer", "--reset-dataloader"], (1, 1, [1, 1], [1])),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_reset_flags(data, five, tmp_path, flags, expected):
    folder = tmp_path / "search"
    shutil.copytree(five, folder)
    search(data, folder, *flags, updates=expected[0])
    assert found(folder) == expected
    assert_near(folder, five)


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--restore-file", (6, 6, [3, 0], [6])),
        ("--finetune-from-model", (1, 1, [1, 1], [1])),
    ],
)
def test_from_the_checkpoint_of_another_search(data, five, tmp_path, flag, expected):
    folder = tmp_path / "search"
    search(data, folder, f"{flag}={five / 'checkpoint_last.pt'}", updates=expected[0])
    assert found(folder) == expected
    assert_near(folder, five)
    # It goes on with its own checkpoint, as any search.
    updates, steps, _, logged = expected
    flags = [f"{flag}={five / 'checkpoint_last.pt'}"] if flag == "--finetune-from-model" else []
    search(data, folder, *flags, updates=updates + 1)
    assert found(folder)[:2] == (updates + 1, steps + 1)
    assert found(folder)[3] == [*logged, updates + 1]


def assert_near(folder, before):
    """alpha was kept, and has taken one step: of Adam's first, no element is above the rate."""
    old, new = state(before)["model"], state(folder)["model"]
    for side in ("encoder", "decoder"):
        moved = (new[f"architecture.{side}"] - old[f"architecture.{side}"]).abs()
        assert 0 < moved.max() < 1.5 * ALPHA_LR
        assert torch.count_nonzero(moved) > moved.numel() / 2
