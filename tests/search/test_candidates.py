"""--encoder-candidates and --decoder-candidates: a search among part of the operations."""

import random
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from flags import config
from helpers import build_model
from hypothesis import given, settings
from hypothesis import strategies as st
from interrupt import same, state
from running import GENERATE, RETRAIN, SEARCH, hypotheses, load, read_log, run, train_in_process

from fairseq_revdarts.cli.derive import main as derive
from fairseq_revdarts.derivation import most_probable
from fairseq_revdarts.genotype import load_genotype, operations_by_node
from fairseq_revdarts.models.revdarts_transformer.config import candidates_of, chosen_genotype
from fairseq_revdarts.profiling.schedule import all_equal, schedule_of
from fairseq_revdarts.search.config import STRATEGIES
from fairseq_revdarts.search.paths import random_path
from fairseq_revdarts.search.strategies import BY_NAME
from fairseq_revdarts.search_space import CANDIDATES, chosen_candidates

few = settings(deadline=None, max_examples=12)
ENCODER, DECODER = ("self_attention", "ffn"), ("conv_3", "self_attention", "cross_attention")
FLAGS = [
    *("--encoder-candidates=ffn,self_attention", "--decoder-candidates"),
    "self_attention, cross_attention,conv_3",
]
SMALL = [*SEARCH, "--train-subset=valid", "--batch-size=2", "--alpha-split=0.3", "--log-interval=1"]
ELIMINATION = [
    *("--search-strategy=elimination", "--warmup-share=0.2", "--elimination-share=(0.3, 0.9)"),
]


def names_of(living):
    """The candidates that live anywhere on a side."""
    return {index for layer in living for node in layer for index in node}


def some(side):
    """Any part of a side's candidates, as the flag has it."""
    names = st.lists(st.sampled_from(CANDIDATES[side]), min_size=1, unique=True)
    return names.map(",".join)


# ------------------------------------------------------------------------------- the rules


@few
@given(some("encoder"), some("decoder"), st.sampled_from(STRATEGIES), st.integers(0, 2**31))
def test_nothing_ever_holds_another_candidate(encoder, decoder, strategy, seed):
    """No subset, path, elimination, genotype, and no network drawn at random."""
    flags = {"encoder_candidates": encoder, "decoder_candidates": decoder}
    model = build_model(**flags)
    architecture = model.architecture
    allowed = {"encoder": set(encoder.split(",")), "decoder": set(decoder.split(","))}

    def check_living(active):
        for side, names in allowed.items():
            living = names_of(active.get(side) or architecture.living(side))
            assert {CANDIDATES[side][index] for index in living} <= names

    def check_genotype(genotype):
        for node, name in operations_by_node(genotype).items():
            assert name in allowed[node.split(".")[0]]

    torch.manual_seed(seed)
    for alpha in architecture.alphas():
        alpha.copy_(10 * torch.randn(alpha.shape))
    before = architecture.mean_living()
    for moment in schedule_of(strategy, model, seed):
        check_living(moment.theta)
        check_living(moment.alpha or {})
    assert architecture.mean_living() == before  # a new search begins with the same ones
    rule = BY_NAME[strategy](
        model,
        SimpleNamespace(seed=seed, max_update=4, elimination_share="(0.2, 0.9)", active_share=0.4),
    )
    for update in range(1, 5):
        rule.after_update(update, all_equal)
        check_living({})
        check_genotype(architecture.genotype())
    assert strategy != "elimination" or architecture.mean_living() == 1
    architecture.reset_updates()
    for genotype in most_probable(architecture.tables(), "max", 40):
        check_genotype(genotype)
    check_genotype(random_path(model, seed, "a path"))
    check_genotype(chosen_genotype(config(genotype=f"random:{seed}", **flags)))
    for row in architecture.node_probabilities().values():
        assert sum(row.values()) == pytest.approx(1)


def test_all_names_are_the_same_as_none():
    """Also for the draws: the flag leaves a search of all candidates as it is."""
    named = {f"{side}_candidates": ",".join(reversed(names)) for side, names in CANDIDATES.items()}
    assert candidates_of(config(**named)) == candidates_of(config()) == CANDIDATES
    networks = [chosen_genotype(config(genotype="random:3", **flags)) for flags in ({}, named)]
    assert networks[0] == networks[1]


def test_other_candidates_have_no_weights():
    whole, part = build_model(), build_model(encoder_candidates="ffn,zero")
    assert whole.architecture.encoder.shape == part.architecture.encoder.shape
    node = part.encoder.stack.layers[1].nodes[0]
    sizes = [sum(w.numel() for w in candidate.parameters()) for candidate in node.candidates]
    chosen = CANDIDATES["encoder"].index("ffn")
    assert sizes[chosen] > 0 and sum(sizes) == sizes[chosen]
    with pytest.raises(NotImplementedError):
        node.candidates[0](torch.ones(1, 1, 12), None)


@pytest.mark.parametrize("side", CANDIDATES)
@pytest.mark.parametrize("names", ["ffn,conv_33", "", " , "])
def test_what_does_not_fit_is_refused(side, names):
    reason = f"no {side} operation 'conv_33'" if names.startswith("ffn") else "at least one is"
    with pytest.raises(ValueError, match=f"--{side}-candidates {names}: {reason}.*conv_3, conv_5"):
        chosen_candidates(side, names)


def test_cross_attention_is_none_of_the_encoders():
    with pytest.raises(ValueError, match="no encoder operation 'cross_attention'"):
        chosen_candidates("encoder", "cross_attention")


# ------------------------------------------------------------------------------- searches


@pytest.fixture(scope="module", params=STRATEGIES)
def restricted(request, data, tmp_path_factory):
    """A search of six updates by each strategy, with its flags."""
    folder = tmp_path_factory.mktemp("candidates")
    flags = [*SMALL, *FLAGS, f"--search-strategy={request.param}"]
    flags += ELIMINATION if request.param == "elimination" else []
    train_in_process(data, folder, *flags, "--save-interval-updates=3", updates=6)
    return folder, flags


def test_its_files_know_these_candidates_alone(restricted, tmp_path, capsys):
    folder, _ = restricted
    for node, row in read_log(folder / "search.jsonl")[-1]["probabilities"].items():
        assert set(row) == set(ENCODER if node.startswith("encoder") else DECODER)
        assert sum(row.values()) == pytest.approx(1)
    model = load(folder / "checkpoint_last.pt")["model"]
    of_nodes = {re.match(r"encoder.*candidates\.(\d+)\.", name) for name in model} - {None}
    assert {CANDIDATES["encoder"][int(found[1])] for found in of_nodes} == set(ENCODER)
    derive([str(folder), "-o", str(tmp_path / "genotype.json"), "--top=3"])
    output = capsys.readouterr().out
    assert "--encoder-candidates self_attention,ffn\n" in output
    assert "--decoder-candidates conv_3,self_attention,cross_attention\n" in output
    assert (tmp_path / "genotype.json").read_text() == (folder / "genotype.json").read_text()
    for text in tmp_path.glob("*.json"):
        for node, name in operations_by_node(load_genotype(str(text))).items():
            assert name in (ENCODER if node.startswith("encoder") else DECODER)
    found = re.search("^encoder: entropy (.*) nats, .*; each of 2 candidates has 0.500", output)
    assert found is None or float(found[1]) <= 0.694


def test_it_resumes_bit_by_bit_generates_and_is_trained(data, restricted, tmp_path):
    folder, flags = restricted
    resumed = tmp_path / "resumed"
    resumed.mkdir()
    (middle,) = folder.glob("checkpoint_*_3.pt")
    shutil.copy(middle, resumed / "checkpoint_last.pt")
    shutil.copy(folder / "search.jsonl", resumed / "search.jsonl")
    train_in_process(data, resumed, *flags, "--save-interval-updates=3", updates=6)
    assert same(state(folder), state(resumed))
    last = folder / "checkpoint_last.pt"
    output = run("fairseq-generate", data, "--path", last, "--beam=2", *GENERATE)
    assert len(hypotheses(output)) == 13
    train_in_process(
        *(data, tmp_path / "found", *RETRAIN, *FLAGS),
        f"--genotype={folder / 'genotype.json'}",
        updates=1,
    )


@pytest.mark.parametrize("flags", [[], ["--encoder-candidates=ffn,zero"], FLAGS[1:]])
@pytest.mark.parametrize("reset", [[], ["--reset-optimizer", "--reset-dataloader"]])
def test_another_list_is_refused_before_any_work(data, restricted, tmp_path, flags, reset):
    """Of the last case, the encoder's list is another one, and the decoder's the same."""
    folder = shutil.copytree(restricted[0], tmp_path / "copy")
    given = "ffn,zero" if flags and "zero" in flags[0] else ",".join(CANDIDATES["encoder"])
    message = (
        f"--encoder-candidates {given}: the search in {folder}/checkpoint_last.pt has "
        "self_attention,ffn; they must be the same"
    )
    with pytest.raises(ValueError, match=message):
        train_in_process(data, folder, *SMALL, *flags, *reset, updates=7)
    assert same(state(folder), state(restricted[0]))


def test_one_candidate_per_node(data, tmp_path, capsys):
    flags = ["--encoder-candidates=self_attention", "--decoder-candidates=self_attention"]
    for strategy in STRATEGIES:
        folder = tmp_path / strategy
        more = ELIMINATION if strategy == "elimination" else [f"--search-strategy={strategy}"]
        train_in_process(data, folder, *SMALL, *flags, *more, updates=2)
        capsys.readouterr()
        derive([str(folder), "-o", str(tmp_path / "genotype.json")])
        output = capsys.readouterr().out
        assert "encoder: one candidate in each node, because the search had no other" in output
        assert "warning" not in output and "probability 1\n" in output
        assert {*load_genotype(str(tmp_path / "genotype.json")).encoder} == {
            ("self_attention",) * 2
        }
        assert {entry["alpha_entropy"] for entry in read_log(folder / "search.jsonl")} == {0}


def test_the_log_names_no_choice_where_there_was_none(data, tmp_path, caplog):
    flags = [*SMALL, *ELIMINATION, "--encoder-candidates=ffn", "--decoder-candidates=ffn,glu"]
    with caplog.at_level("INFO"):
        train_in_process(data, tmp_path, *flags, updates=2)
    assert caplog.text.count(" with a probability of ") == 4
    assert "encoder.1.1: " not in caplog.text


def test_registered_operations_can_be_chosen(data, tmp_path):
    """As a user types it; without the package, the error names what is known."""
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import fairseq_revdarts\n"
        "from fairseq_revdarts import register_operation\n"
        "from fairseq_revdarts.modules.operations import GatedLinearUnit\n"
        "register_operation('mine')(GatedLinearUnit)\n"
    )
    words = [*SMALL, "--encoder-candidates=mine,zero", "--decoder-candidates=mine"]
    with pytest.raises(ValueError, match="no encoder operation 'mine'; they are conv_3"):
        train_in_process(data, tmp_path / "search", *words, updates=1)
    words = [word for word in words if not word.startswith("--user-dir")]
    run(
        *("fairseq-train", data, "--user-dir", package, f"--save-dir={tmp_path / 'search'}"),
        *("--max-update=1", *words),
    )
    genotype = (tmp_path / "search/genotype.json").read_text()
    assert "mine" in genotype.split("decoder")[1] and "ffn" not in genotype
    output = run(
        *("revdarts-derive", tmp_path / "search", "--user-dir", package),
        *("-o", tmp_path / "genotype.json"),
    )
    assert "--encoder-candidates zero,mine" in output
    assert (tmp_path / "genotype.json").read_text() == genotype


def test_an_average_over_two_lists_is_refused(data, restricted, tmp_path):
    train_in_process(data, tmp_path / "all", *SMALL, updates=1)
    with pytest.raises(SystemExit, match=r"another search space.*and candidates must agree"):
        derive([str(restricted[0]), str(tmp_path / "all"), "-o", str(tmp_path / "none.json")])


def test_random_networks_of_a_search_space(data, tmp_path):
    """Trained like any other; their checkpoints hold the architecture."""
    flags = [*RETRAIN, *FLAGS, "--genotype=random:5"]
    train_in_process(data, tmp_path, *flags, updates=1)
    genotype = load_genotype(load(tmp_path / "checkpoint_last.pt")["cfg"]["model"]["genotype"])
    generator = random.Random(5)
    expected = [ENCODER[int(generator.random() * 2)] for _ in range(4)]
    assert [name for layer in genotype.encoder for name in layer] == expected
