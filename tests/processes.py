"""fairseq-train in processes forked from one that has imported it: they start at once."""

import multiprocessing
import os
import resource
import socket
import sys
from pathlib import Path

import torch

FORK_SERVER = multiprocessing.get_context("forkserver")
FORK_SERVER.set_forkserver_preload(["fairseq_cli.train", "torch._dynamo", "fairseq_revdarts"])


def _main(words, output, file_size):
    from fairseq_cli.train import cli_main

    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    torch.set_num_threads(1)
    sys.argv = ["fairseq-train", *words]
    cli_main()


def start(*words, output, file_size=None):
    """Start fairseq-train; what it prints is added to the file `output`.

    `file_size` is the largest file in bytes that it can write, as if the disk were full.
    """
    words = [str(word) for word in words]
    process = FORK_SERVER.Process(target=_main, args=(words, str(output), file_size))
    process.start()
    return process


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def train_together(data, folder, *flags, processes=2):
    """A search of several processes over gloo, all of which must succeed."""
    Path(folder).mkdir(exist_ok=True)
    together = [
        f"--distributed-world-size={processes}",
        "--distributed-no-spawn",
        f"--distributed-init-method=tcp://127.0.0.1:{free_port()}",
        "--distributed-backend=gloo",
    ]
    outputs = [Path(folder) / f"output-{rank}.txt" for rank in range(processes)]
    started = [
        start(
            *(data, f"--save-dir={folder}", *flags, *together, f"--distributed-rank={rank}"),
            output=output,
        )
        for rank, output in enumerate(outputs)
    ]
    try:
        for process, output in zip(started, outputs):
            process.join(timeout=120)
            assert process.exitcode == 0, output.read_text()[-5000:]
    finally:
        for process in started:
            process.kill()
    return outputs[0].read_text()
