"""`python -m fairseq_revdarts.cli.flags`: what it lists is what fairseq-train takes."""

import difflib

import frozen_flags
import pytest
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import MODEL_DATACLASS_REGISTRY
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from flags import parse

from fairseq_revdarts.cli import flags

LISTED = {(flag.owner, flag.name): flag for flag in flags.all_flags()}
ARCHITECTURES = [
    (owner, name)
    for owner in flags.OWNERS
    if owner.startswith("--arch ")
    for name in [owner.split()[1], *flags.named_architectures(owner)]
]


def test_everything_that_the_package_registers_is_listed():
    registries = {
        "--arch": MODEL_DATACLASS_REGISTRY,
        "--task": TASK_DATACLASS_REGISTRY,
        "--criterion": CRITERION_DATACLASS_REGISTRY,
    }
    registered = {
        f"{option} {name}": config
        for option, registry in registries.items()
        for name, config in registry.items()
        if config.__module__.startswith("fairseq_revdarts.")
    }
    assert registered == flags.OWNERS


@pytest.mark.parametrize(("owner", "name"), ARCHITECTURES)
def test_the_defaults_are_those_of_fairseq_train(owner, name):
    config = convert_namespace_to_omegaconf(parse(arch=name)).model
    for flag in flags.flags_of(owner):
        value = flags.shown(config[flag.name[2:].replace("-", "_")])
        listed = flag.named.get(name, flag.default)
        assert value == listed or (value == "none" and " " in listed), flag.name


def test_defaults_and_choices():
    model, task = "--arch revdarts_transformer", "--task bilevel_search"
    width = LISTED[model, "--embed-dim"]
    assert width.default == "256"
    assert width.named == {"revdarts_transformer_big": "512", "revdarts_transformer_tiny": "64"}
    assert LISTED[model, "--pooling"].choices == ("max", "avg")
    assert LISTED[model, "--share-all-embeddings"].default == "off"
    backprop = LISTED[model, "--backprop"]
    assert backprop.default == "reconstruct for a supernet, store for a genotype"
    assert "default" not in backprop.help
    assert LISTED[task, "--alpha-betas"].default == "(0.9, 0.98)"
    assert LISTED["--criterion reversible_search", "--label-smoothing"].default == "0.1"
    assert LISTED["--arch evolved_transformer", "--dropout"].named == {
        "evolved_transformer_big": "0.3"
    }


def test_the_flags_of_fairseq_are_left_out():
    names = {name for _, name in LISTED}
    assert not names & {"--source-lang", "--eval-bleu", "--report-accuracy", "--update-freq"}


def test_every_flag_has_a_help_text():
    for flag in LISTED.values():
        assert len(flag.help) > 10, flag


@pytest.mark.parametrize("width", [80, 100])
def test_what_is_printed_fits_the_terminal(monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", str(width))
    flags.main([])
    lines = capsys.readouterr().out.splitlines()
    titles = [line for before, line in zip(lines, lines[1:]) if not before]
    assert [title.split(" or ")[0] for title in titles] == list(flags.OWNERS)
    assert all(len(line) <= width for line in lines if line not in titles)
    shown = {line.split()[0] for line in lines if line.startswith("  --")}
    assert shown == {flag.name for flag in LISTED.values()}
    text = " ".join(" ".join(lines).split())
    assert "width of the factorised embeddings (default: 256; 512 for revdarts_tr" in text
    assert "The task also takes all flags of --task translation" in text


def test_no_flag_and_no_default_changes_by_accident():
    frozen, now = frozen_flags.FILE.read_text().splitlines(), list(frozen_flags.all_lines())
    changes = "\n".join(difflib.unified_diff(frozen, now, "frozen", "now", lineterm="", n=0))
    assert not changes, (
        f"flags or defaults have changed:\n{changes}\nIf that is intended, let the diff show it: "
        "python tests/frozen_flags.py > tests/frozen_flags.txt"
    )
