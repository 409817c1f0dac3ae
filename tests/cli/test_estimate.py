"""revdarts-profile --estimate: its counts are those of real steps, and its errors name flags."""

import re
from dataclasses import replace

import pytest
from helpers import TYPICAL, activation_peak_of, build_model
from hypothesis import given, settings
from hypothesis import strategies as st
from running import SEARCH
from stand_in import BACKPROP_ON_META
from torch.utils.flop_counter import FlopCounterMode

from fairseq_revdarts.cli import profile
from fairseq_revdarts.profiling import estimate
from fairseq_revdarts.profiling.measure import Steps
from fairseq_revdarts.profiling.training import read_training
from fairseq_revdarts.search.gradient_buffer import GradientBuffer

BATCH = ["data", "--max-tokens=200", "--max-update=1000"]
LAYERS = ["--encoder-layers=1", "--decoder-layers=1", "--cell-layers=1"]
SMALL = [*LAYERS, "--hidden-size=48", "--embed-dim=16", "--ffn-embed-dim=32", "--attention-heads=2"]
SUPERNET = [*BATCH, "--arch=revdarts_transformer_tiny", *SMALL, "--share-all-embeddings"]
SEARCHES = [
    *(*SUPERNET, "--task=bilevel_search", "--criterion=reversible_search"),
    "--search-strategy=darts",
]
TRANSFORMER = [
    *(*BATCH, "--arch=transformer_iwslt_de_en", "--share-decoder-input-output-embed"),
    *("--encoder-layers=2", "--decoder-layers=2", "--encoder-embed-dim=64"),
    *("--decoder-embed-dim=64", "--criterion=label_smoothed_cross_entropy"),
]
IDLE_CANDIDATES = [
    *("--distributed-world-size=2", "--backprop=store", "--search-strategy=elimination"),
]
#: What memory may be off by: attention is counted as torch computes it where no fast kernel is.
FACTOR = 1.15


def training(*flags, vocabulary=60):
    return read_training(list(flags), length=10, vocabulary=vocabulary)


def real_steps(on_meta):
    on_cpu = replace(on_meta, device="cpu")
    return Steps(on_cpu, on_cpu.model())


@settings(max_examples=10, deadline=None)
@given(
    layers=st.integers(1, 3).map(lambda cells: 2 * cells),
    hidden_size=st.integers(1, 4).map(lambda parts: 12 * parts),
    shared=st.booleans(),
    found=st.booleans(),
    vocabulary=st.integers(5, 90),
)
def test_parameters_are_those_of_the_model(layers, hidden_size, shared, found, vocabulary):
    sizes = {"encoder_layers": layers, "hidden_size": hidden_size, "attention_heads": 2}
    genotype = {"genotype": TYPICAL.to_json()} if found else {}
    flags = {**sizes, "decoder_layers": 2, "embed_dim": 8, "ffn_embed_dim": 16, **genotype}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    words += ["--share-all-embeddings"] * shared
    expected = build_model(vocabulary, share_all_embeddings=shared, **flags)
    on_meta = training(*BATCH, "--arch=revdarts_transformer", *words, vocabulary=vocabulary)
    assert count(on_meta.model()) == count(expected)


def count(model):
    return sum(weight.numel() for weight in model.parameters())


# With few tokens, gradients that are added to others show: in a search always, elsewhere in later
# batches.
batches = pytest.mark.parametrize(("update_freq", "tokens"), [(1, 200), (1, 20), (2, 20)])


@batches
@pytest.mark.parametrize("backprop", BACKPROP_ON_META)
def test_memory_of_a_search_is_that_of_real_steps(backprop, update_freq, tokens):
    check_memory(update_freq, tokens, *SEARCHES, f"--backprop={backprop}")


@batches
@pytest.mark.parametrize(
    "flags",
    [
        [*SUPERNET, f"--genotype={TYPICAL.to_json()}", "--encoder-layers=2", "--decoder-layers=2"],
        TRANSFORMER,
    ],
)
def test_memory_of_a_training_is_that_of_real_steps(flags, update_freq, tokens):
    check_memory(update_freq, tokens, *flags)


def check_memory(update_freq, tokens, *flags):
    on_meta = training(*flags, f"--update-freq={update_freq}", f"--max-tokens={tokens}")
    cost, steps = estimate.cost_of(on_meta), real_steps(on_meta)
    assert cost.parameters == count(steps.model)
    if steps.alphas:
        GradientBuffer(steps.weights).offer()
    for _ in range(update_freq - 1):
        steps.theta()
    peaks = [
        activation_peak_of(step, list(steps.model.parameters()), *steps.existing())
        for step in steps.named().values()
    ]
    assert max(peaks) / FACTOR <= cost.activations <= FACTOR * max(peaks)


def test_operations_are_those_that_torch_counts():
    on_meta = training(*TRANSFORMER, "--update-freq=3")
    with FlopCounterMode(display=False) as counted:
        real_steps(on_meta).theta()
    found = estimate.cost_of(on_meta).operations
    assert found == pytest.approx(3 * counted.get_total_flops(), rel=0.02)


def test_a_strategy_costs_what_it_evaluates():
    darts, elimination, sampling = (
        estimate.cost_of(training(*SEARCHES, f"--search-strategy={name}")).operations
        for name in ("darts", "elimination", "sampling")
    )
    assert sampling < 2 * darts / 13 / 2  # one candidate, and alpha has no step
    # 4 of 13 candidates, then ever fewer, one at the end; alpha's step in 40 to 95 % of the search
    assert 0.6 * 4 / 13 * darts < elimination < 0.9 * 4 / 13 * darts


def test_alpha_rests_as_long_as_it_is_told():
    whole, half = (
        estimate.cost_of(training(*SEARCHES, f"--alpha-start={start}")).operations
        for start in (0, 500)
    )
    assert 0.7 * whole < half < 0.85 * whole


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], 16),  # weight, gradient, two moments
        (["--fp16"], 20),  # both in half and in single precision, two moments
        (["--memory-efficient-fp16"], 12),
        (["--distributed-world-size=2"], 20),  # the gradient once more, in buckets
        (["--distributed-world-size=2", "--gradient-as-bucket-view"], 16),
        (["--distributed-world-size=2", "--fp16"], 22),
    ],
)
def test_bytes_per_parameter(flags, expected):
    assert estimate.bytes_per_parameter(training(*SEARCHES, *flags)) == expected


def test_half_precision_halves_what_is_not_the_stream():
    single, half = (
        estimate.cost_of(training(*SEARCHES, *flags, "--backprop=store")).activations
        for flags in ([], ["--fp16"])
    )
    assert 0.4 * single < half < 0.9 * single


def printed(capsys, *arguments):
    profile.main(["--estimate", *arguments])
    return capsys.readouterr().out


def hours(output):
    return [float(number) for number in re.search(r"time: (.*) hours, (.*) for", output).groups()]


def test_hours_follow_from_operations_and_rate(capsys):
    flags = [*SEARCHES, "--max-update=40000000", "--distributed-world-size=4"]
    output = printed(capsys, "--length=10", "--vocabulary=60", "--flops=0.5", "--", *flags)
    operations = estimate.cost_of(training(*flags)).operations
    expected = operations * 4e7 / 0.5e12 / 3600
    assert hours(output) == pytest.approx([expected, 4 * expected], abs=0.06)
    assert "5.00e+11 operations per second, as given by --flops" in output
    assert max(map(len, output.splitlines())) <= 100


def test_the_rate_is_measured_where_the_training_will_run(capsys):
    arguments = ["--vocabulary=60", "--memory=0.00001", "--", *SEARCHES, "--max-tokens=2000"]
    output = printed(capsys, *arguments, "--cpu")
    assert "measured on this CPU in a step of 1,000 tokens" in output
    assert "fits 1e-05 GB: no" in output
    if not estimate.torch.cuda.is_available():
        assert "as the paper's search on a V100" in printed(capsys, *arguments)


def test_a_device_with_too_little_memory_is_not_measured(capsys, monkeypatch):
    def fails(*_):
        raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")

    monkeypatch.setattr(estimate, "measured_rate", fails)
    output = printed(capsys, "--vocabulary=60", "--", *SEARCHES, "--cpu")
    assert "as the paper's search on a V100; this CPU has too little memory" in output


def test_the_dictionaries_are_those_of_the_data(capsys, data):
    output = printed(capsys, "--flops=1", "--", str(data), *SEARCH, "--max-update=10")
    types = len((data / "dict.en.txt").read_text().splitlines()) + 4
    flags = {"embed_dim": 16, "hidden_size": 48, "ffn_embed_dim": 32, "attention_heads": 4}
    expected = count(build_model(types, share_all_embeddings=True, **flags))
    assert f"estimate: {expected / 1e6:.1f} M parameters, 10 updates of 400 tokens" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--estimate"], "--estimate -- DATA FLAGS: the flags of fairseq-train are needed"),
        (["--", "data"], "--: flags of fairseq-train behind it are for --estimate"),
        (["--flops=3"], "--flops 3: a number above 0 is needed, with --estimate"),
        (["--estimate", "--flops=0", "--", *SEARCHES], "--flops 0: a number above 0"),
        (["--estimate", "--", *SEARCHES], "data: no such folder; name the folder that"),
        (["--estimate", "--", *SEARCHES, "--no-flag"], "unrecognized arguments: --no-flag"),
        (["--estimate", "--", *SEARCHES, "--arch=no"], "argument --arch/-a: invalid choice: 'no'"),
        (["--estimate", "--", *SEARCHES, "--max-update=0"], "--max-update is needed"),
        (["--estimate", "--", "data", "--max-tokens=9"], "--arch is needed"),
        (["--estimate", "--", "data", "--arch=transformer"], "--max-tokens or --batch-size"),
        (
            ["--estimate", "--", "data", "--task=language_modeling", "--arch=transformer_lm"],
            "--task language_modeling: translation or bilevel_search is needed",
        ),
        (
            ["--estimate", "--vocabulary=60", "--", *SEARCHES, "--cell-layers=2"],
            "--encoder-layers 1: not a positive multiple of 2 (--cell-layers)",
        ),
        (
            ["--estimate", "--vocabulary=60", "--", *SEARCHES, "--genotype=random:1"],
            "--task bilevel_search: a search needs the supernet",
        ),
        (["--estimate", "--vocabulary=2", "--", *SEARCHES], "--vocabulary 2: at least 5 is needed"),
        (["--estimate", "--vocabulary=60", "--", *SEARCHES, "--alpha-split=2"], "--alpha-split 2"),
        (
            ["--estimate", "--vocabulary=60", "--", *SEARCHES, "--alpha-start=1000"],
            "--alpha-start 1000: below --max-update, 1000, is needed",
        ),
        (
            ["--estimate", "--vocabulary=60", "--", *SEARCHES, *IDLE_CANDIDATES],
            "--ddp-backend pytorch_ddp with --search-strategy elimination: an update leaves",
        ),
    ],
)
def test_errors_name_the_flag(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        profile.main(arguments)
    assert end.value.code not in (None, 0)
    assert message in f"{end.value.code}" + capsys.readouterr().err


def test_a_folder_without_data_is_named(capsys, tmp_path):
    with pytest.raises(SystemExit, match=f"{tmp_path}: Could not infer language pair"):
        profile.main(["--estimate", "--", str(tmp_path), *SEARCHES[1:]])
