"""fairseq-hydra-train with the YAML of examples/hydra: the same as fairseq-train, to the bit."""

import pytest
import torch
from running import BIN, CHECKOUT, NETWORK, PLUGIN, RETRAIN, SEARCH, assert_same_weights, load, run

#: conftest's NETWORK and TRAINING, in hydra's words.
OVERRIDES = [
    f"common.user_dir={PLUGIN}",
    "common.cpu=true",
    "common.log_interval=2",
    "dataset.max_tokens=400",
    "dataset.num_workers=0",
    "dataset.disable_validation=true",
    "optimization.lr=[0.003]",
    "optimization.clip_norm=0.0",
    "optimizer.adam_betas='(0.9, 0.999)'",
    "lr_scheduler._name=inverse_sqrt",
    "lr_scheduler.warmup_updates=4",
    "model.pooling=max",
    "model.embed_dim=16",
    "model.hidden_size=48",
    "model.ffn_embed_dim=32",
]
SEARCH_OVERRIDES = ["task.search_strategy=darts", "task.alpha_lr=0.05", "task.drift_interval=2"]


def hydra_train(name, data, folder, *overrides, updates, **more):
    return run(
        *(BIN / "fairseq-hydra-train", "--config-dir", CHECKOUT / "examples/hydra"),
        *("--config-name", name, f"task.data={data}", f"checkpoint.save_dir={folder}"),
        *(f"optimization.max_update={updates}", *OVERRIDES, *overrides),
        cwd=folder.parent,
        **more,
    )


def test_search_and_training_from_yaml_are_the_command_lines(data, search, retrained, tmp_path):
    assert "--arch=revdarts_transformer_tiny" in NETWORK and "--max-tokens=400" in SEARCH
    hydra_train("search", data, tmp_path / "search", *SEARCH_OVERRIDES, updates=6)
    assert_same_weights(tmp_path / "search/checkpoint_last.pt", search[0] / "checkpoint_last.pt")
    for name in ("genotype.json", "search.jsonl"):
        assert (tmp_path / "search" / name).read_text() == (search[0] / name).read_text()

    assert "--label-smoothing=0.1" in RETRAIN
    genotype = tmp_path / "search/genotype.json"
    hydra_train("retrain", data, tmp_path / "found", f"model.genotype={genotype}", updates=4)
    ours, theirs = tmp_path / "found/checkpoint_last.pt", retrained / "checkpoint_last.pt"
    assert_same_weights(ours, theirs)
    assert load(ours)["cfg"]["model"]["genotype"] == load(theirs)["cfg"]["model"]["genotype"]


def test_half_precision_and_the_end_of_a_stable_search(data, tmp_path):
    """--bf16 on the command line wants a TPU on a CPU; from YAML it does not."""
    output = hydra_train(
        *("search", data, tmp_path / "search", "common.bf16=true", "model.backprop=checkpoint"),
        *("task.search_strategy=darts", "task.alpha_lr=1e-9", "task.stop_when_stable=2"),
        updates=9,
    )
    assert "stable for 2 updates, --stop-when-stable is 2" in output
    model = load(tmp_path / "search/checkpoint_last.pt")["model"]
    assert model["architecture.encoder_step"] == 2
    for name, halved in (
        ("encoder.input.projection.weight", True),
        ("architecture.encoder", False),
    ):
        assert torch.equal(model[name], model[name].bfloat16().float()) == halved


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.alpha_split=1.5", "--alpha-split 1.5: a share between 0 and 1 is needed"),
        ("task.alpha_start=soon", "soon"),
    ],
)
def test_an_override_that_does_not_fit_is_named(data, tmp_path, override, message):
    output = hydra_train("search", data, tmp_path / "search", override, updates=1, fails=True)
    assert message in output
    assert not (tmp_path / "search/search.jsonl").exists()
