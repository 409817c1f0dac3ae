"""fairseq's commands, ours and Python scripts, forked from a process that has imported fairseq.

Most of the time of a short command is its imports. server.py does them once. In `environment()`,
each command is client.py, which asks the server to run it. Before Python 3.9 nothing is forked.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Dict

from forking.server import entry_points

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
POSSIBLE = hasattr(os, "pidfd_open")

COMMAND = """#!/bin/sh
exec {python} -IS {here}/client.py {folder}/socket {name} "$@"
"""
#: Python itself takes -c, -m and the like.
PYTHON = """#!/bin/sh
case $1 in
*.py) exec {python} -IS {here}/client.py {folder}/socket python "$@" ;;
*) exec {python} "$@" ;;
esac
"""
#: A virtual environment for environment.sh: installed, as its stamp says.
ACTIVATE = "PATH={folder}/bin:{bin}:$PATH\n"
STAMP = "echo installed-examples-$(cat setup.py constraints.txt | cksum | cut -d' ' -f1)"


def write_environment(folder: Path) -> None:
    """What environment.sh looks for, and the commands."""

    def write(name: str, template: str, mode: int) -> None:
        text = template.format(python=sys.executable, here=HERE, folder=folder, name=name, bin=BIN)
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(mode)

    (folder / "bin").mkdir()
    write("activate", ACTIVATE, 0o644)
    stamp = subprocess.check_output(STAMP, shell=True, text=True, cwd=HERE.parent.parent)
    (folder / stamp.strip()).touch()
    if POSSIBLE:
        write("python", PYTHON, 0o755)
        for name in entry_points():
            if name.startswith(("fairseq-", "revdarts-")):
                write(name, COMMAND, 0o755)


def start_server(socket: Path) -> None:
    """Start the server, which ends with this process, and wait for it."""
    server = subprocess.Popen(
        [sys.executable, HERE / "server.py", socket],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    atexit.register(server.stdin.close)  # which keeps it open until then
    while not socket.exists():
        if server.poll() is not None:
            raise RuntimeError("the server of forked commands did not start")
        time.sleep(0.01)


@lru_cache(maxsize=None)
def environment() -> Dict[str, str]:
    """The variables with which commands are forked; starts the server."""
    folder = Path(tempfile.mkdtemp(prefix="forking-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_environment(folder)
    if POSSIBLE:
        start_server(folder / "socket")
    return {"PATH": f"{folder}/bin:{BIN}:{os.environ['PATH']}", "ENVIRONMENT": str(folder)}
