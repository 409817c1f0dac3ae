"""The table of fairseq's flags in tests/README.md has a place for each of them."""

import re
from dataclasses import fields
from pathlib import Path

from fairseq.dataclass import configs
from fairseq.tasks.translation import TranslationConfig

TESTS = Path(__file__).parent
SECTIONS = (
    *(configs.CommonConfig, configs.DistributedTrainingConfig, configs.DatasetConfig),
    *(configs.OptimizationConfig, configs.CheckpointConfig, configs.EMAConfig),
    *(configs.FairseqBMUFConfig, configs.GenerationConfig, configs.CommonEvalConfig),
    *(configs.InteractiveConfig, TranslationConfig),
)
#: Flags that fairseq 0.12.2 lacks.
NEWER = {"--beam-mt", "--lenpen-mt", "--max-len-a-mt", "--max-len-b-mt", "--debug-param-names"}


def rows():
    """The cells of the table's rows."""
    section = (TESTS / "README.md").read_text().split("## Flags of fairseq")[1].split("\n## ")[0]
    lines = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return [line for line in lines[2:] if "**" not in line[0]]


def test_every_flag_has_one_place():
    names = {field.name for section in SECTIONS for field in fields(section)} - {"_name"}
    fairseqs = {"--" + name.replace("_", "-") for name in names}
    listed = [flag for row in rows() for flag in re.findall(r"`(--[a-z0-9-]+)[ a-z_]*`", row[0])]
    # One row for each of its values.
    assert {flag for flag in listed if listed.count(flag) > 1} == {"--ddp-backend"}
    assert fairseqs - set(listed) == set()
    assert set(listed) - fairseqs - NEWER == set()


def test_what_works_or_is_refused_names_a_test():
    """Of rows with "works" or "refused" the last cell names files that exist."""
    for flags, search, network, tests in rows():
        files = re.findall(r"`([\w/]+\.py)`", tests)
        assert all((TESTS / file).exists() for file in files), tests
        claims = [cell for cell in (search, network) if re.match("works|refused", cell)]
        assert files or not claims, flags
