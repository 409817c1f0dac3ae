"""--store-ema: the moving average of a network found is trained, resumed and used."""

import pytest
import torch
from fairseq.checkpoint_utils import load_model_ensemble_and_task, save_ema_as_checkpoint
from fairseq_cli.generate import cli_main as fairseq_generate
from running import (
    GENERATE,
    RETRAIN,
    SEARCH,
    TEST_SENTENCES,
    hypotheses,
    in_process,
    load,
    train_in_process,
)

AVERAGE = ["--store-ema", "--ema-decay=0.9"]
DERIVED = [*RETRAIN, "--genotype=random:1"]


@pytest.mark.parametrize("precise", [[], ["--ema-fp32"]], ids=str)
def test_the_average_of_a_derived_network(data, tmp_path, monkeypatch, capsys, precise):
    flags, decay = [*DERIVED, *AVERAGE, *precise, "--save-interval-updates=1"], 0.9
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    train_in_process(data, straight, *flags, updates=3)
    for updates in (1, 3):
        train_in_process(data, resumed, *flags, updates=updates)
    saved = [load(straight / f"checkpoint_1_{update}.pt") for update in (1, 2, 3)]
    averages = [each["extra_state"]["ema"] for each in saved]
    for name, value in averages[2].items():
        if name.endswith("_float_tensor"):  # fairseq 0.12.2 leaves it uninitialised
            continue
        assert torch.equal(value, load(resumed / "checkpoint_last.pt")["extra_state"]["ema"][name])
        if ".stack." not in name:
            continue  # fairseq averages embeddings that are shared once for each of their names
        expected = decay * averages[1][name] + (1 - decay) * saved[2]["model"][name]
        torch.testing.assert_close(value, expected)
    average = str(tmp_path / "average.pt")
    save_ema_as_checkpoint(straight / "checkpoint_last.pt", average)
    (model,), _, _ = load_model_ensemble_and_task([average])
    for name, value in model.state_dict().items():
        assert torch.equal(value, averages[2][name])
    words = ["--path", average, "--beam=2", "--max-len-b=9", *GENERATE]
    in_process(monkeypatch, fairseq_generate, data, *words)
    assert len(hypotheses(capsys.readouterr().out)) == TEST_SENTENCES


@pytest.mark.parametrize("flags", [SEARCH, RETRAIN], ids=["search", "supernet"])
def test_the_average_of_a_supernet_is_refused(data, tmp_path, flags):
    with pytest.raises(ValueError, match=r"^--store-ema: not for a supernet"):
        train_in_process(data, tmp_path, *flags, *AVERAGE, updates=1)
    assert list(tmp_path.iterdir()) == []
