"""Genotype files: where they are found, and how they are written."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from genotype_files import DOCUMENTED, NO_SUCH_FILE, documented, moderate
from hypothesis import example, given
from hypothesis import strategies as st

from fairseq_revdarts import genotype as module
from fairseq_revdarts.genotype import Genotype, GenotypeError, load_genotype
from fairseq_revdarts.search_space import CROSS_ATTENTION


def file_flaw(name):
    """The message of the GenotypeError that loading what `name` names raises."""
    with pytest.raises(GenotypeError) as error:
        load_genotype(str(name))
    assert "--genotype" in str(error.value)
    return str(error.value)


def test_a_file_that_is_not_there_is_named():
    message = file_flaw(NO_SUCH_FILE)
    assert NO_SUCH_FILE in message
    assert "No such file" in message


def test_a_directory_is_named(tmp_path):
    message = file_flaw(tmp_path)
    assert str(tmp_path) in message
    assert "directory" in message


def test_a_broken_file_is_named_with_its_flaw(tmp_path):
    path = tmp_path / "genotype.json"
    path.write_text(json.dumps(documented(pooling="median")), encoding="utf-8")
    message = file_flaw(path)
    assert str(path) in message
    assert "'median'" in message


def test_a_broken_genotype_of_a_checkpoint_is_not_called_a_file():
    message = file_flaw(json.dumps(documented(pooling="median")))
    assert "checkpoint" in message
    assert "'median'" in message


@moderate
@given(st.binary(max_size=64))
@example(b"\x80\x02}q\x00.")
@example(b"\xff\xfe{\x00}\x00")
@example(b"\xef\xbb\xbf" + DOCUMENTED.encode()[:20])
@example(b"\x00" * 16)
def test_a_binary_file_is_a_genotype_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "binary.json"
    path.write_bytes(content)
    assert str(path) in file_flaw(path)


@moderate
@given(st.text(max_size=20))
@example("")
@example("{")
@example("\0")
@example("x" * 300)
def test_any_name_without_a_genotype_is_a_genotype_error(name):
    file_flaw(name)


# ------------------------------------------------------------------------------- writing

OLD = Genotype("max", (("ffn", "ffn"),), (("ffn", CROSS_ATTENTION),))
NEW = Genotype("avg", (("glu", "glu"),), (("glu", CROSS_ATTENTION),))


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(
    tmp_path, monkeypatch, function, error
):
    path = tmp_path / "genotype.json"
    OLD.save(str(path))

    def fail(*_args, **_kwargs):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(type(error), match=re.escape(str(error))):
            NEW.save(str(path))
    assert load_genotype(str(path)) == OLD
    assert os.listdir(tmp_path) == ["genotype.json"]


def test_the_old_file_is_replaced_by_one_that_is_complete(tmp_path, monkeypatch):
    path = tmp_path / "genotype.json"
    OLD.save(str(path))
    replace, seen = os.replace, []

    def look(source, target):
        seen.append((load_genotype(str(source)), load_genotype(str(target))))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    NEW.save(str(path))
    assert seen == [(NEW, OLD)]
    assert load_genotype(str(path)) == NEW
    assert os.listdir(tmp_path) == ["genotype.json"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_file_is_written_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # so that opening it to write is no wait
    Genotype.from_json(DOCUMENTED).save(str(pipe))
    assert Genotype.from_json(os.read(reader, 1 << 16).decode()) == Genotype.from_json(DOCUMENTED)
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_saved_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "other").touch()
    NEW.save(str(tmp_path / "genotype.json"))
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_path_without_a_folder_is_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    NEW.save("genotype.json")
    assert load_genotype("genotype.json") == NEW
    assert os.listdir(tmp_path) == ["genotype.json"]


# ------------------------------------------------------------------------------- imports

WITHOUT_THE_PACKAGE = """
import sys, types
package = types.ModuleType("fairseq_revdarts")
package.__path__ = [sys.argv[1]]
sys.modules["fairseq_revdarts"] = package
from fairseq_revdarts.genotype import load_genotype
print(load_genotype(sys.argv[2]).pooling)
print(sorted({"torch", "fairseq", "numpy", "omegaconf"} & set(sys.modules)))
"""


def test_genotypes_are_read_without_torch():
    folder = str(Path(module.__file__).parent)
    command = [sys.executable, "-c", WITHOUT_THE_PACKAGE, folder, DOCUMENTED]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout.splitlines() == ["max", "[]"], run.stderr
