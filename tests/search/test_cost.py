"""A search within a budget: costs, the penalty's gradient, and networks at or under the limit."""

import json
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from helpers import build_model, genotypes
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from interrupt import same, state
from processes import train_together
from running import SEARCH, load, read_log, train_in_process

from fairseq_revdarts.cli import profile
from fairseq_revdarts.cli.derive import main as derive
from fairseq_revdarts.genotype import load_genotype
from fairseq_revdarts.modules.mixture import softmax_over
from fairseq_revdarts.search.cost import Budget, Costs, latency_costs, parameter_costs
from fairseq_revdarts.search.derived_weights import derived_weights
from fairseq_revdarts.search.elimination import Elimination
from fairseq_revdarts.search.latency_table import LatencyTable, load_latency_table
from fairseq_revdarts.search_space import CANDIDATES
from fairseq_revdarts.utils.parameters import count_parameters

few, moderate = settings(deadline=None, max_examples=10), settings(deadline=None, max_examples=40)
SMALL = [*SEARCH, "--train-subset=valid", "--batch-size=2", "--alpha-split=0.3", "--log-interval=1"]
#: The sizes of the networks of SEARCH.
SIZES = {
    **{"hidden_size": 48, "embed_dim": 16, "ffn_embed_dim": 32, "attention_heads": 4},
    **{"encoder_splits": 2, "decoder_splits": 3},
}
ELIMINATION = [
    *("--search-strategy=elimination", "--warmup-share=0.2", "--elimination-share=(0.3, 0.9)"),
]


def random_costs(architecture, generator, fixed=5.0):
    tables = {
        side: (10 * torch.rand(alpha.shape, generator=generator)).tolist()
        for side, alpha in zip(CANDIDATES, architecture.alphas())
    }
    return Costs("latency", fixed, tables)


def random_living(architecture, generator):
    """Any living candidates, at least one in each node."""
    living = {}
    for side, alpha in zip(CANDIDATES, architecture.alphas()):
        mask = torch.rand(alpha.shape, generator=generator) < 0.5
        mask[..., int(generator.seed()) % alpha.size(-1)] = True
        living[side] = [[tuple(node.nonzero().flatten().tolist()) for node in row] for row in mask]
    return living


# ------------------------------------------------------------------------------- costs


@few
@given(genotypes(layers=(2, 2), splits=(3, 3)), st.booleans(), st.booleans())
def test_parameters_are_those_of_the_derived_network(genotype, shared, some):
    """As revdarts-derive counts them, whatever shares an architecture, or embeddings."""
    allowed = {name for side in CANDIDATES for row in getattr(genotype, side) for name in row}
    names = ",".join(name for name in CANDIDATES["encoder"] if name in allowed) or None
    model = build_model(
        **{"encoder_layers": 4, "encoder_splits": 3, "share_all_embeddings": shared},
        encoder_candidates=names if some else None,
    )
    expected = count_parameters(derived_weights(model.state_dict(keep_vars=False), genotype))
    assert parameter_costs(model).of(genotype) == expected


def table(**changes):
    """A latency table that nobody has measured."""
    times = {
        side: {
            name: {"decode": float(len(name)), "train": 1.0 + number}
            for number, name in enumerate(names)
        }
        for side, names in CANDIDATES.items()
    }
    layer = {"encoder": {"decode": 0.5, "train": 1.0}, "decoder": {"decode": 3.0, "train": 1.0}}
    content = {
        **{"machine": "none", "sizes": SIZES, "workload": {}, "layer": layer},
        **{"outside": {"decode": 100.0, "train": 1.0}, "candidates": times},
    }
    return LatencyTable(**{**content, **changes})


@few
@given(genotypes(layers=(2, 2), splits=(3, 3)))
def test_the_latency_of_a_network_is_the_sum_of_its_parts(genotype):
    layers = {"encoder_layers": 6, "decoder_layers": 4, "cell_layers": 2}
    costs = latency_costs(table(), {**SIZES, **layers, "encoder_splits": 3})
    expected = 100 + 6 * 0.5 + 4 * 3.0
    expected += 3 * sum(len(name) for row in genotype.encoder for name in row)
    expected += 2 * sum(len(name) for row in genotype.decoder for name in row[:-1])
    assert costs.of(genotype) == pytest.approx(expected)


@moderate
@given(st.integers(0, 2**31))
def test_the_least_cost_is_that_of_the_cheapest_network(seed):
    model, generator = build_model(cell_layers=1), torch.Generator().manual_seed(seed)
    costs = random_costs(model.architecture, generator)
    living = random_living(model.architecture, generator)
    paths = [
        {side: [[(node[0],) for node in row] for row in cell] for side, cell in living.items()},
        {side: [[(node[-1],) for node in row] for row in cell] for side, cell in living.items()},
    ]
    assert costs.least(living) <= min(map(costs.least, paths)) + 1e-9
    cheapest = {
        side: [
            [(min(node, key=row.__getitem__),) for node, row in zip(nodes, rows)]
            for nodes, rows in zip(living[side], costs.tables[side])
        ]
        for side in CANDIDATES
    }
    assert costs.least(cheapest) == pytest.approx(costs.least(living))


# ------------------------------------------------------------------------------- the penalty

MODEL = build_model(cell_layers=1)


@moderate
@given(st.integers(0, 2**31), st.floats(0.3, 2))
def test_the_gradient_of_the_penalty_in_double_precision(seed, share):
    """Against finite differences, and against p_o (cost_o - sum of p cost) weight / limit."""
    generator = torch.Generator().manual_seed(seed)
    costs, living = (make(MODEL.architecture, generator) for make in (random_costs, random_living))
    alphas = [
        torch.randn(alpha.shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for alpha in MODEL.architecture.alphas()
    ]
    by_side = dict(zip(CANDIDATES, alphas))
    probabilities = {side: softmax_over(by_side[side], living[side]) for side in CANDIDATES}
    expected = float(Budget(costs, 1.0, 1.0).expected(probabilities))
    assume(abs(share - 1) > 1e-3)  # at the limit there is no derivative
    budget = Budget(costs, share * expected, 3.0)

    def penalty(*alphas):
        return budget.penalty(dict(zip(CANDIDATES, alphas)), living)

    assert float(penalty(*alphas)) == pytest.approx(max(0.0, 3 * (1 / share - 1)), abs=1e-9)
    assert torch.autograd.gradcheck(penalty, alphas)
    for side, gradient in zip(CANDIDATES, torch.autograd.grad(penalty(*alphas), alphas)):
        p, cost = probabilities[side], torch.tensor(costs.tables[side], dtype=torch.float64)
        by_hand = p * (cost - (p * cost).sum(-1, keepdim=True)) * 3 / budget.limit
        torch.testing.assert_close(gradient, by_hand if share < 1 else torch.zeros_like(p))


@pytest.mark.parametrize("tokens", [1.0, 700.0, 0.0])
def test_the_penalty_is_in_nats_per_token(tokens):
    """What alpha's step divides by the tokens gains the same gradient, however many they are."""
    architecture = MODEL.architecture
    costs = random_costs(architecture, torch.Generator().manual_seed(1))
    budget = Budget(costs, 10.0, 0.7)
    sums = [tokens * torch.ones_like(alpha) for alpha in architecture.alphas()]
    found = budget.add_penalty(architecture, sums, tokens)
    alphas = [alpha.double().requires_grad_() for alpha in architecture.alphas()]
    living = {side: architecture.living(side) for side in CANDIDATES}
    penalty = budget.penalty(dict(zip(CANDIDATES, alphas)), living)
    for gradient, added in zip(found, torch.autograd.grad(penalty, alphas)):
        assert gradient.dtype == torch.float32
        mean = gradient / max(tokens, 1)
        torch.testing.assert_close(mean, min(tokens, 1) + added.float(), rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------- elimination


@moderate
@given(st.integers(0, 2**31), st.floats(0, 1), st.integers(1, 30))
def test_what_is_left_is_always_within_the_limit(seed, slack, updates):
    """There always is a candidate that may go, however tight the limit and short the search."""
    generator = torch.Generator().manual_seed(seed)
    model = build_model(cell_layers=2)
    architecture = model.architecture
    for alpha in architecture.alphas():
        alpha.copy_(3 * torch.randn(alpha.shape, generator=generator))
    costs = random_costs(architecture, generator)
    living = {side: architecture.living(side) for side in CANDIDATES}
    most = Costs("latency", -costs.fixed, negated(costs.tables)).least(living)
    least = costs.least(living)
    budget = Budget(costs, least + slack * (-most - least), 1.0)
    cfg = SimpleNamespace(max_update=updates, elimination_share="(0.1, 0.9)")
    rule = Elimination(model, cfg, budget)
    for update in range(1, updates + 1):
        rule.after_update(update)
        assert budget.allows({side: architecture.living(side) for side in CANDIDATES})
        counts = {len(node) for row in architecture.living("encoder") for node in row}
        assert counts == {rule.living_after(update, 13)}
    assert architecture.mean_living() == 1
    assert costs.of(architecture.genotype()) <= budget.limit


def negated(tables):
    return {
        side: [[[-cost for cost in row] for row in layer] for layer in table]
        for side, table in tables.items()
    }


def test_a_limit_that_all_networks_keep_changes_nothing():
    found = []
    for limit in (None, 1e9):
        torch.manual_seed(4)
        model = build_model()
        budget = limit and Budget(parameter_costs(model), limit, 1.0)
        rule = Elimination(
            model, SimpleNamespace(max_update=40, elimination_share="(0.1, 0.9)"), budget
        )
        for update in range(1, 41):
            rule.after_update(update)
        found.append((model.architecture.genotype(), model.architecture.last_choices()))
    assert found[0] == found[1]


# ------------------------------------------------------------------------------- searches


def parameters_of(folder):
    content = load(folder / "checkpoint_last.pt")
    genotype = load_genotype(str(folder / "genotype.json"))
    return count_parameters(derived_weights(content["model"], genotype))


@pytest.fixture(scope="module")
def loose(data, tmp_path_factory):
    """A search of eight updates by elimination, with a limit that it need not mind."""
    folder = tmp_path_factory.mktemp("cost") / "loose"
    flags = [*SMALL, *ELIMINATION, "--cost=parameters", "--cost-limit=1e6"]
    train_in_process(data, folder, *flags, "--save-interval-updates=2", updates=8)
    return folder


def test_a_tighter_limit_gives_a_network_at_or_under_it(data, loose, tmp_path, capsys, caplog):
    free = parameters_of(loose)
    limit = int(0.8 * free)
    flags = [*SMALL, *ELIMINATION, "--cost=parameters", f"--cost-limit={limit}"]
    with caplog.at_level("INFO"):
        train_in_process(data, tmp_path, *flags, updates=8)
    size = parameters_of(tmp_path)
    assert size <= limit < free
    last = read_log(tmp_path / "search.jsonl")[-1]
    assert last["cost"] == size and last["cost_limit"] == limit
    assert f"{size:,} parameters, within --cost-limit {limit:,}" in caplog.text
    derive([str(tmp_path), "-o", str(tmp_path / "derived.json")])
    output = capsys.readouterr().out
    assert f"derived.json: {size:,} parameters, probability 1" in output
    assert "warning" not in output.split("genotype written")[1]


def test_a_search_resumes_bit_by_bit_and_within_another_limit(data, loose, tmp_path):
    """One that networks of the candidates that are left can keep; another is refused."""
    flags = [*SMALL, *ELIMINATION, "--cost=parameters", "--save-interval-updates=2"]
    (middle,) = loose.glob("checkpoint_*_4.pt")
    for folder in ("same", "lower", "refused"):
        (tmp_path / folder).mkdir()
        shutil.copy(middle, tmp_path / folder / "checkpoint_last.pt")
        shutil.copy(loose / "search.jsonl", tmp_path / folder / "search.jsonl")
    train_in_process(data, tmp_path / "same", *flags, "--cost-limit=1e6", updates=8)
    assert same(state(loose), state(tmp_path / "same"))
    with pytest.raises(ValueError, match="--cost-limit 1: the cheapest network") as error:
        train_in_process(data, tmp_path / "refused", *flags, "--cost-limit=1", updates=8)
    (least,) = re.findall(r"can find has ([\d,]+) parameters", str(error.value))
    least = int(least.replace(",", ""))
    train_in_process(data, tmp_path / "lower", *flags, f"--cost-limit={least}", updates=8)
    assert parameters_of(tmp_path / "lower") == least < parameters_of(loose)


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """One update with a penalty beside which the loss is nothing; alpha stays where it is."""
    folder = tmp_path_factory.mktemp("cost") / "alone"
    train_in_process(data, folder, *HEAVY, updates=1)
    return folder


HEAVY = [
    *(*SMALL, "--cost=parameters", "--cost-limit=9000", "--cost-weight=1e7", "--alpha-lr=0"),
    *("--alpha-weight-decay=0", "--cell-layers=1"),
]


def first_moment(folder):
    """A tenth of alpha's gradient in the first update, relative to its largest element."""
    model = load(folder / "checkpoint_last.pt")["model"]
    moments = [model[f"architecture.{side}_exp_avg"] for side in CANDIDATES]
    return torch.cat([moment.flatten() for moment in moments])


@pytest.mark.parametrize(
    "flags",
    [
        ["--update-freq=3"],
        ["--memory-efficient-fp16", "--fp16-init-scale=64", "--backprop=checkpoint"],
        ["--sentence-avg"],
        ["two processes"],
    ],
    ids=" ".join,
)
def test_the_penalty_is_added_once_per_update(data, alone, tmp_path, flags):
    """Whatever the number of tokens, micro-batches and processes, and the scale of the loss."""
    if flags == ["two processes"]:
        train_together(data, tmp_path, *HEAVY, "--ddp-backend=legacy_ddp", "--max-update=1")
    else:
        train_in_process(data, tmp_path, *HEAVY, *flags, updates=1)
    expected, found = first_moment(alone), first_moment(tmp_path)
    assert expected.abs().max() > 1e3
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=float(1e-4 * expected.abs().max()))


def test_a_search_of_all_candidates_says_what_it_costs(data, tmp_path, capsys, caplog):
    """Its most probable operations may be above the limit."""
    flags = ["--cost=parameters", "--cost-limit=9000", "--cost-weight=0", "--alpha-lr=0.3"]
    with caplog.at_level("INFO"):
        train_in_process(data, tmp_path, *SMALL, *flags, updates=2)
    size = parameters_of(tmp_path)
    verdict = f"{size:,} parameters, {100 * (size / 9000 - 1):.3g} % above --cost-limit 9,000"
    assert f"the network in genotype.json: {verdict}" in caplog.text
    derive([str(tmp_path), "-o", str(tmp_path / "derived.json")])
    assert f"warning: {tmp_path / 'derived.json'}: {verdict}" in capsys.readouterr().out


def test_latency_from_the_measurement_to_the_network(data, tmp_path, capsys):
    """As a user does it: measure, search, derive."""
    names = ["--encoder-candidates=ffn,conv_3", "--decoder-candidates=self_attention,zero"]
    file = tmp_path / "latency.json"
    sizes = [f"--{name.replace('_', '-')}={value}" for name, value in SIZES.items()]
    measuring = ["--layers=1", "--cell-layers=1", "--tokens=40", "--length=4", "--vocabulary=60"]
    profile.main([*sizes, *measuring, *names, "--runs=1", f"--latency={file}"])
    assert "latency table written to" in capsys.readouterr().out
    measured = json.loads(file.read_text())
    assert measured["sizes"] == SIZES and measured["workload"]["beam"] == 5
    assert set(measured["candidates"]["encoder"]) == {"conv_3", "ffn", "zero"}
    assert "torch" in measured["machine"] and measured["outside"]["decode"] > 0
    measured["candidates"]["encoder"] = {  # as if it had not been noise
        name: {"decode": time, "train": 1.0} for name, time in (("ffn", 2.0), ("conv_3", 1.0))
    }
    file.write_text(json.dumps(measured))
    flags = [*SMALL, *names, *ELIMINATION, "--cost=latency", f"--latency-table={file}"]
    with pytest.raises(ValueError, match=r"has .* ms per sentence; a limit of at least") as error:
        train_in_process(data, tmp_path / "search", *flags, "--cost-limit=1e-3", updates=6)
    (least,) = re.findall(r"find has ([\d,.]+) ms", str(error.value))
    limit = f"--cost-limit={least.replace(',', '')}"
    train_in_process(data, tmp_path / "search", *flags, limit, updates=6)
    found = load_genotype(str(tmp_path / "search/genotype.json"))
    assert {name for layer in found.encoder for name in layer} == {"conv_3"}
    for more in ([], [f"--latency-table={file}"]):
        derive([str(tmp_path / "search"), "-o", str(tmp_path / "derived.json"), *more])
    without, with_table = capsys.readouterr().out.split("genotype written to")[-2:]
    assert "compare with --latency-table" in without and "warning" not in with_table
    assert f"parameters, {least} ms per sentence, probability" in with_table


# ------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--cost-limit=5"], "--cost-limit 5.0: --cost is missing; it is one of parameters"),
        (["--cost-weight=5"], "--cost-weight 5.0: --cost is missing"),
        (["--latency-table=x"], "--latency-table x: --cost is missing"),
        (["--cost=parameters"], "--cost parameters: --cost-limit is missing"),
        (["--cost=latency", "--cost-limit=5"], "--cost latency: --latency-table is missing"),
        (
            ["--cost=parameters", "--cost-limit=5", "--latency-table=x"],
            "--latency-table x: not with --cost parameters",
        ),
        (["--cost=parameters", "--cost-limit=-1"], "--cost-limit -1.0: above 0 is needed"),
        (
            ["--cost=parameters", "--cost-limit=1e6", "--cost-weight=-1"],
            "--cost-weight -1.0: at least 0 is needed",
        ),
        (
            ["--cost=parameters", "--cost-limit=1e6", "--search-strategy=sampling"],
            "--cost parameters: not with --search-strategy sampling",
        ),
        (["--cost=parameters", "--cost-limit=100"], "--cost-limit 100: the cheapest network"),
    ],
)
def test_flags_that_do_not_fit_are_refused(data, tmp_path, flags, message):
    with pytest.raises(ValueError) as error:
        train_in_process(data, tmp_path, *SMALL, *flags, updates=1)
    assert message in str(error.value)
    assert not (tmp_path / "genotype.json").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not a table"),
        ("{}", "not a table"),
        ("[1]", "not a table"),
        (table(sizes={**SIZES, "hidden_size": 96}), "measured with --hidden-size 96, not with"),
        (table(sizes={"hidden_size": 48}), "not a table"),
        (table(outside={"decode": -1.0, "train": 1.0}), "not a table"),
        (table(candidates={"encoder": {}, "decoder": {}}), "no time of the encoder operation conv"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, content, message):
    file = tmp_path / "latency.json"
    if isinstance(content, LatencyTable):
        content.save(str(file))
    elif content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=re.escape(f"--latency-table {file}: ")) as error:
        load_latency_table(str(file), SIZES, CANDIDATES)
    assert message in str(error.value)


def test_a_table_is_read_as_it_was_written(tmp_path):
    table().save(str(tmp_path / "latency.json"))
    assert load_latency_table(str(tmp_path / "latency.json"), SIZES, CANDIDATES) == table()


@pytest.mark.parametrize("flag", ["--sweep=layers", "--genotype=random:1", "--memory=24"])
def test_a_latency_table_is_measured_alone(capsys, flag):
    with pytest.raises(SystemExit):
        profile.main(["--latency=x.json", flag])
    assert f"--latency x.json: not with {flag.split('=')[0]}" in capsys.readouterr().err
