"""The whole road through fairseq's commands, as a newcomer types them."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
from fairseq.distributed import utils as distributed_utils
from running import (
    GENERATE,
    NETWORK,
    RETRAIN,
    SEARCH,
    TEST_SENTENCES,
    assert_same_weights,
    hypotheses,
    load,
    read_log,
    run,
    train,
    train_in_process,
    weights,
)

from fairseq_revdarts.genotype import load_genotype
from fairseq_revdarts.models.revdarts_transformer.config import (
    RevDartsTransformerConfig,
    chosen_genotype,
)
from fairseq_revdarts.search.checks import check_processes
from fairseq_revdarts.search_space import CANDIDATES


def test_search_writes_its_genotype_and_its_log(search):
    folder, output = search
    genotype = load_genotype(str(folder / "genotype.json"))
    assert len(genotype.encoder) == 2 and len(genotype.decoder[0]) == 3
    log = read_log(folder / "search.jsonl")
    assert [entry["update"] for entry in log] == [2, 4, 6]
    for entry in log:
        assert entry["loss"] > 0 and entry["alpha_loss"] > 0 and 0 < entry["drift"] < 1e-4
        assert len(entry["probabilities"]) == 2 * 2 + 2 * 2
        for node, row in entry["probabilities"].items():
            assert abs(sum(row.values()) - 1) < 1e-5
            assert tuple(row) == CANDIDATES[node.split(".")[0]]
    for key in ("loss", "alpha_loss", "alpha_entropy", "drift"):
        assert f'"{key}"' in output
    assert re.search(r"of 300 training pairs, 167 update theta and 133 update alpha", output)


def test_search_moves_alpha_on_its_own_share(search):
    """alpha's batches are counted, and its Adam has taken one step an update."""
    model = weights(search[0] / "checkpoint_last.pt")
    for side in CANDIDATES:
        assert model[f"architecture.{side}_step"] == 6
        assert model[f"architecture.{side}"].abs().max() > 0.05
    assert model["architecture.data_position"].tolist()[0] >= 1
    assert model["architecture.data_position"].tolist() != [1, 0, 0]


def test_genotype_is_the_argmax_of_the_checkpoint(search, tmp_path):
    folder, _ = search
    output = run("revdarts-derive", folder / "checkpoint_last.pt", "-o", tmp_path / "derived.json")
    assert "encoder.1.1" in output and "decoder.2.2" in output
    assert (tmp_path / "derived.json").read_text() == (folder / "genotype.json").read_text()


def test_resumed_search_goes_on_where_it_was(data, search, tmp_path):
    folder, _ = search
    train(data, tmp_path, *SEARCH, updates=3)
    assert load(tmp_path / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"] == 3
    # What an interrupted search wrote after its last checkpoint is written again, not twice.
    with open(tmp_path / "search.jsonl", "a") as file:
        file.write('{"update": 4}\n{"upd')
    train(data, tmp_path, *SEARCH, updates=6)
    assert_same_weights(tmp_path / "checkpoint_last.pt", folder / "checkpoint_last.pt")
    assert (tmp_path / "genotype.json").read_text() == (folder / "genotype.json").read_text()
    updates = [entry["update"] for entry in read_log(tmp_path / "search.jsonl")]
    assert updates == [2, 4, 6]


def test_alpha_start(data, tmp_path):
    train(data, tmp_path, *SEARCH, "--alpha-start=2", updates=3)
    assert weights(tmp_path / "checkpoint_last.pt")["architecture.encoder_step"] == 1
    assert read_log(tmp_path / "search.jsonl")[0]["alpha_loss"] is None


def test_flags_with_which_alpha_would_never_move_are_refused(data, tmp_path):
    with pytest.raises(ValueError, match=r"--alpha-start 3: below --max-update, 3, is needed"):
        train_in_process(data, tmp_path, *SEARCH, "--alpha-start=3", updates=3)
    flags = ("--skip-remainder-batch", "--batch-size=999", "--max-tokens=99999")
    with pytest.raises(ValueError, match=r"--skip-remainder-batch: alpha's pairs make a single"):
        train_in_process(data, tmp_path, *SEARCH, *flags, updates=3)


def test_update_freq_takes_as_many_batches_of_alphas_share(data, tmp_path):
    """Resumed in the middle of an epoch of either share, with delayed updates."""
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    train(data, straight, *SEARCH, "--update-freq=2", updates=4)
    train(data, resumed, *SEARCH, "--update-freq=2", updates=2)
    train(data, resumed, *SEARCH, "--update-freq=2", updates=4)
    assert_same_weights(straight / "checkpoint_last.pt", resumed / "checkpoint_last.pt")
    position = weights(straight / "checkpoint_last.pt")["architecture.data_position"]
    epoch, batches, _ = position.tolist()
    assert epoch > 1 or batches == 8


def test_checkpoint_holds_the_genotype_and_not_its_path(retrained):
    genotype = load_genotype(str(retrained / "moved.json"))
    saved = load(retrained / "checkpoint_last.pt")["cfg"]["model"]["genotype"]
    assert json.loads(saved) == json.loads(genotype.to_json())


def test_generate_loses_no_sentence(data, retrained):
    output = run(
        *("fairseq-generate", data, "--path", retrained / "checkpoint_last.pt", "--beam=4"),
        *("--remove-bpe=sentencepiece", *GENERATE),
    )
    assert sorted(hypotheses(output)) == list(range(TEST_SENTENCES))


def test_batched_beam_search_gives_what_sentences_give_one_by_one(data, retrained):
    command = ["fairseq-generate", data, "--path", retrained / "checkpoint_last.pt", "--beam=4"]
    batched, single = (
        hypotheses(run(*command, *GENERATE, *more)) for more in ([], ["--batch-size=1"])
    )
    assert batched == single


def test_generate_with_the_supernet_itself(data, search):
    output = run(
        *("fairseq-generate", data, "--path", search[0] / "checkpoint_last.pt"),
        *("--beam=2", "--max-len-b=20", *GENERATE),
    )
    assert sorted(hypotheses(output)) == list(range(TEST_SENTENCES))
    assert "alpha will not move" not in output


def test_generation_with_the_search_task_does_not_divide_the_data(data, retrained):
    output = run(
        *("fairseq-generate", data, "--path", retrained / "checkpoint_last.pt"),
        *("--task=bilevel_search", "--gen-subset=train", "--beam=1", "--max-len-b=3", *GENERATE),
    )
    assert sorted(hypotheses(output)) == list(range(300))


def test_interactive(data, retrained, raw):
    sentences = (raw / "pieces/test.en").read_text().splitlines()[:3]
    output = run(
        *("fairseq-interactive", data, "--path", retrained / "checkpoint_last.pt"),
        *("--source-lang=en", "--target-lang=fr", "--buffer-size=3", "--beam=2", *GENERATE),
        input="\n".join(sentences) + "\n",
    )
    assert sorted(hypotheses(output)) == [0, 1, 2]


def test_retraining_goes_on_where_it_was(data, retrained, tmp_path):
    genotype = f"--genotype={retrained / 'moved.json'}"
    train(data, tmp_path, *RETRAIN, genotype, updates=2)
    train(data, tmp_path, *RETRAIN, genotype, updates=4)
    assert_same_weights(tmp_path / "checkpoint_last.pt", retrained / "checkpoint_last.pt")


def test_retraining_with_reconstruction(data, retrained, tmp_path):
    """Gives the weights of plain backpropagation within rounding, and a network that translates."""
    flags = [f"--genotype={retrained / 'moved.json'}", "--backprop=reconstruct"]
    train(data, tmp_path, *RETRAIN, *flags, updates=4)
    checkpoint = tmp_path / "checkpoint_last.pt"
    assert str(load(checkpoint)["cfg"]["model"]["backprop"]) == "reconstruct"
    plain = weights(retrained / "checkpoint_last.pt")
    for name, value in weights(checkpoint).items():
        torch.testing.assert_close(value, plain[name], rtol=0, atol=1e-3, msg=name)
    output = run("fairseq-generate", data, "--path", checkpoint, "--beam=2", *GENERATE)
    assert sorted(hypotheses(output)) == list(range(TEST_SENTENCES))


def test_a_checkpoint_of_a_random_genotype_holds_the_genotype(data, tmp_path):
    train_in_process(data, tmp_path, *RETRAIN, "--genotype=random:1", updates=1)
    saved = load(tmp_path / "checkpoint_last.pt")["cfg"]["model"]["genotype"]
    random_one = RevDartsTransformerConfig(genotype="random:1")
    assert load_genotype(saved) == chosen_genotype(random_one)


@pytest.mark.parametrize("kind", [SEARCH, [*RETRAIN, "--genotype=random:1"]], ids=["search", ""])
def test_validation_with_bleu_and_resuming(data, tmp_path, kind):
    """--eval-bleu puts numpy's counts into the checkpoint: it still loads, weights only."""
    flags = [flag for flag in kind if flag != "--disable-validation"]
    flags += ["--eval-bleu", "--eval-bleu-remove-bpe"]
    flags += ['--eval-bleu-args={"beam": 1, "max_len_b": 10}']
    train(data, tmp_path, *flags, updates=1)
    assert '"train_num_updates": "2"' in train(data, tmp_path, *flags, updates=2)


def test_a_supernet_trained_by_mistake_is_warned_of(data, tmp_path):
    assert "alpha will not move" in train(data, tmp_path, *RETRAIN, "--no-save", updates=1)


def test_search_with_a_genotype_is_refused(data, retrained, tmp_path):
    genotype = f"--genotype={retrained / 'moved.json'}"
    output = train(data, tmp_path, *SEARCH, genotype, updates=1, fails=True)
    assert "--task bilevel_search with --genotype" in output
    assert not (tmp_path / "search.jsonl").exists()


def test_drift_past_its_limit_stops_the_search(data, tmp_path):
    output = train(data, tmp_path, *SEARCH, "--drift-limit=1e-12", updates=2, fails=True)
    assert "past --drift-limit 1e-12" in output and "--backprop checkpoint" in output


def test_generate_with_another_vocabulary_is_refused(raw, retrained, tmp_path):
    run(
        *("fairseq-preprocess", "--source-lang=en", "--target-lang=fr", "--joined-dictionary"),
        *(f"--trainpref={raw}/raw/train", f"--testpref={raw}/raw/test", f"--destdir={tmp_path}"),
    )
    output = run(
        *("fairseq-generate", tmp_path, "--path", retrained / "checkpoint_last.pt", *GENERATE),
        fails=True,
    )
    assert "the checkpoint's source vocabulary has" in output


def test_a_broken_genotype_is_refused_before_any_work(data, tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text('{"format": "revdarts-genotype", "version": 1')
    output = train(data, tmp_path, *RETRAIN, f"--genotype={broken}", updates=1, fails=True)
    assert "error: argument --genotype" in output and str(broken) in output


@pytest.mark.parametrize("name", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_processes_that_fairseq_does_not_know_of_are_refused(data, tmp_path, monkeypatch, name):
    monkeypatch.setenv("PMI_SIZE", "")
    monkeypatch.setenv(name, "2")
    with pytest.raises(ValueError, match=f"{name} is 2, but fairseq knows of one process"):
        train_in_process(data, tmp_path, *SEARCH, updates=1)


def test_a_backend_that_fairseq_does_not_run_on_the_cpu_is_refused(data, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed_utils, "get_data_parallel_world_size", lambda: 2)
    with pytest.raises(ValueError, match="--ddp-backend pytorch_ddp: fairseq runs it on GPUs only"):
        train_in_process(data, tmp_path, *SEARCH, updates=1)


def test_a_backend_that_looks_for_unused_weights_is_refused(monkeypatch):
    """It would look when a part of the loss is still to come."""
    monkeypatch.setattr(distributed_utils, "get_data_parallel_world_size", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    flags = {"cpu": False, "find_unused_parameters": True}
    check_processes(SimpleNamespace(ddp_backend="legacy_ddp", **flags))
    with pytest.raises(ValueError, match="--find-unused-parameters: not with bilevel_search"):
        check_processes(SimpleNamespace(ddp_backend="pytorch_ddp", **flags))


UNUSED = "use --backprop reconstruct or --ddp-backend legacy_ddp"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--alpha-split=1.5", "--alpha-split 1.5: a share between 0 and 1 is needed"),
        ("--alpha-split=0", "--alpha-split 0.0: a share between 0 and 1 is needed"),
        ("--alpha-split=0.001", "it leaves 300 to theta and 0 to alpha"),
        ("--alpha-betas=0.9", "--alpha-betas 0.9: two numbers"),
        ("--alpha-lr=-1", "--alpha-lr -1.0: at least 0 is needed"),
        ("--amp", "--amp: not with bilevel_search"),
        ("--tpu", "--tpu: not with bilevel_search; use a GPU or --cpu"),
        ("--use-bmuf", "--use-bmuf: not with bilevel_search; alpha's step needs the whole model"),
        ("--zero-sharding=os", "--zero-sharding os: not with bilevel_search"),
        ("--pipeline-model-parallel", "--pipeline-model-parallel: not with bilevel_search"),
        ("--quantization-config-path=x", "--quantization-config-path x: not with bilevel_search"),
        ("--ddp-backend=fully_sharded", "--ddp-backend fully_sharded: a search takes"),
        ("--search-strategy=sampling --backprop=store --distributed-world-size=2", UNUSED),
        ("--search-strategy=sampling --stop-when-stable=1", "not with --search-strategy sampling"),
        ("--search-strategy=elimination --stop-when-stable=1", "decides by its schedule"),
        ("--hidden-size=56", "--hidden-size 56: not a positive multiple of the 3 decoder splits"),
        ("--encoder-layers=3", "--encoder-layers 3: not a positive multiple of 2 (--cell-layers)"),
        ("--arch=transformer", "--task bilevel_search needs --arch revdarts_transformer"),
    ],
)
def test_flags_that_do_not_fit_are_refused(data, tmp_path, flag, message):
    """The same errors as from the command line, without starting a process for each."""
    flags = [word for word in SEARCH if not (flag.startswith("--arch") and word in NETWORK)]
    with pytest.raises(ValueError, match=re.escape(message)):
        train_in_process(data, tmp_path, *flags, *flag.split(), updates=1)
    assert not any(tmp_path.iterdir())
