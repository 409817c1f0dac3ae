"""What needs a GPU says so where there is none; the table of gpu.sh."""

import json
import sys

import pytest
import torch
from gpu_table import profiled, searched
from running import CHECKOUT, run

without_a_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@without_a_gpu
def test_the_script_refuses_before_it_does_anything():
    output = run("bash", CHECKOUT / "tests/gpu.sh", fails=True)
    assert output == "tests/gpu.sh: no GPU is there (nvidia-smi lists none)\n"


@without_a_gpu
def test_pytest_refuses():
    output = run(sys.executable, "-m", "pytest", "--device", "cuda", fails=True, cwd=CHECKOUT)
    assert output.startswith("ERROR: --device cuda: no GPU is there; use --device cpu")


def test_the_table(tmp_path):
    lines = [
        f'INFO | train_inner | {{"ups": "{ups}", "gb_free": "{free}", "train_wall": "9"}}'
        for ups, free in ((0.1, 70), (0.5, 68), (0.5, 69))
    ]
    (tmp_path / "bf16.log").write_text("\n".join(["other", *lines]))
    (tmp_path / "bf16").mkdir()
    entry = {"update": 200, "loss": 6.5, "alpha_loss": 7.25, "drift": 1e-3}
    (tmp_path / "bf16/search.jsonl").write_text(json.dumps(entry) + "\n")
    assert searched(tmp_path, "bf16", 2, 80 * 2**30) == (
        "| search, 200 updates, 2 GPUs | bf16 | 2 | 12.88 |  | "
        "loss 6.50, alpha_loss 7.25, drift 1.0e-03 |"
    )
    theta = {"weights": 1e9, "gradients": 1e9, "activations": 5e8, "reserved": 2e9}
    rows = [
        {"network": "reconstruct", "failed": None, "theta": theta, "pair_seconds": [1.0, 2.0, 3.0]},
        {"network": "store", "failed": "out of memory"},
    ]
    (tmp_path / "bf16.json").write_text(json.dumps({"results": [{"rows": rows}]}))
    assert list(profiled(tmp_path, "bf16")) == [
        "| reconstruct | bf16 | 2 | 2.50 | 3.00 | activations 0.50 |",
        "| store | bf16 |  |  |  | out of memory |",
    ]
