"""Command lines and configurations of the model, and two genotypes that fit and do not fit them."""

from pathlib import Path

import pytest
from fairseq import options

import fairseq_revdarts
from fairseq_revdarts.genotype import Genotype
from fairseq_revdarts.models.revdarts_transformer.config import RevDartsTransformerConfig
from fairseq_revdarts.search_space import CROSS_ATTENTION

#: The architecture that the paper reports to have found, as far as it says.
FOUND = Genotype(
    "max",
    (("ffn", "self_attention"), ("self_attention", "ffn")),
    (
        ("ffn", CROSS_ATTENTION, CROSS_ATTENTION),
        ("self_attention", CROSS_ATTENTION, CROSS_ATTENTION),
    ),
)
#: Another shape than the flags' defaults, in everything.
OTHER = Genotype(
    "avg",
    (("ffn", "glu", "conv_3", "identity"),) * 3,
    (("zero", CROSS_ATTENTION),) * 3,
)


def config(**flags):
    return RevDartsTransformerConfig(
        **{"max_source_positions": 1024, "max_target_positions": 1024, **flags}
    )


def parse(*flags, arch="revdarts_transformer"):
    """What fairseq-train makes of its command line, before it becomes a configuration."""
    user_dir = str(Path(fairseq_revdarts.__file__).parent)
    parser = options.get_training_parser()
    command = ["data", "--user-dir", user_dir, "--task", "translation", "--arch", arch]
    return options.parse_args_and_arch(parser, [*command, *flags])


def parse_error(capsys, *flags):
    """The last line that fairseq-train ends with: argparse's error."""
    with pytest.raises(SystemExit) as stop:
        parse(*flags)
    assert stop.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]
