"""The ablations: every row's flags fit, and a row becomes a line of the table."""

import re

import pytest
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from flags import parse
from running import CHECKOUT, TINY, run

from fairseq_revdarts.models.revdarts_transformer.config import network_shape

SCRIPT = CHECKOUT / "examples/ablations.sh"
ROWS = re.search(r"<<'ROWS'\n(.*?)\nROWS\n", SCRIPT.read_text(), re.DOTALL)[1].splitlines()


@pytest.mark.parametrize("row", ROWS, ids=[row.split()[0] for row in ROWS])
def test_the_flags_of_a_row_fit_the_base(row):
    args = parse("--task", "bilevel_search", *row.split("|")[1].split())
    assert network_shape(convert_namespace_to_omegaconf(args).model).searched


def test_a_row_becomes_a_line_of_the_table(raw, data):
    flags = "--max-tokens 400 --lr 1e-3 --warmup-updates 2 --cpu"
    environment = {"ARCHITECTURE": TINY, "SEARCH_UPDATES": "1", "TRAIN_UPDATES": "1"}
    environment.update(SEARCH_FLAGS=flags, TRAIN_FLAGS=flags)
    output = run("bash", SCRIPT, raw, "avg-s1", env=environment)
    scores = r"\| [\d,]+ \| \d+\.\d+ \| \d+\.\d+ \| 28\.3 \|"
    line = rf"\| pooling avg, s = 1 {scores} `bash \S+ablations.sh FOLDER avg-s1` \|"
    assert re.search(rf"\| command \|\n\| .*\n{line}\n$", output)
    assert '"avg"' in (raw / "ablations/avg-s1/genotype.json").read_text()
    again = run("bash", SCRIPT, raw, "avg-s1", env=environment)
    assert again.count("done before") == 5 and output.splitlines()[-1] in again
    longer = {**environment, "SEARCH_UPDATES": "2"}
    refused = run("bash", SCRIPT, raw, "max-s1", env=longer, fails=True)
    assert "ablations: what is there was made with other settings" in refused
    assert not (raw / "ablations/max-s1").exists()


def test_what_is_not_there_is_named(tmp_path):
    output = run("bash", SCRIPT, tmp_path, "max-s3", fails=True)
    assert "row 'max-s3': there are max-s2 max-s1 avg-s2" in output
    assert "no data/test.*.bin and raw/ there" in run("bash", SCRIPT, tmp_path, fails=True)
