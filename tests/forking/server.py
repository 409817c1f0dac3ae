"""Runs commands in processes forked from this one, which has imported fairseq.

    python server.py SOCKET

client.py sends a command with its folder, environment and standard streams, and waits for its end.
The server ends with its standard input: when the process that started it is gone.
"""

import atexit
import gc
import json
import logging
import os
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from importlib import import_module
from importlib.metadata import distributions
from typing import Any, Dict, List

#: What takes long to import. Not the plugin, which --user-dir imports, nor fairseq's commands,
#: which set up logging.
PRELOADED = [
    *("matplotlib.pyplot", "sacrebleu", "sentencepiece"),
    *("torch._dynamo", "fairseq.trainer", "fairseq.options"),
]
#: Commands that set up logging before they import fairseq. With the others one of its models does.
LOGGING_FIRST = ("fairseq-train", "fairseq-preprocess", "fairseq-validate", "fairseq-interactive")


def entry_points() -> Dict[str, Any]:
    """The commands that the environment's packages install, by name."""
    installed = [point for package in distributions() for point in package.entry_points]
    return {point.name: point for point in installed if point.group == "console_scripts"}


def wait_for_client(listener: socket.socket) -> Dict[str, Any]:
    """Fork for each client; returns in the process that is to run its command."""
    while True:
        ready, _, _ = select.select([listener, 0], [], [])
        if 0 in ready:
            sys.exit()
        connection, _ = listener.accept()
        if os.fork():
            connection.close()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        listener.close()
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        request = json.loads(connection.makefile().readline())
        command = os.fork()
        if command:
            watch(command, connection, streams)
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        return request


def watch(command: int, connection: socket.socket, streams: Any) -> None:
    """Pass a client's signals on to its command, and the end of each to the other."""
    for stream in streams:
        os.close(stream)  # who reads the command's output waits until all writers are gone
    ends = os.pidfd_open(command)
    while True:
        ready, _, _ = select.select([connection, ends], [], [])
        if ends in ready:
            with suppress(BrokenPipeError):  # the client was killed
                connection.send(os.waitpid(command, 0)[1].to_bytes(4, "little"))
            os._exit(0)
        received = connection.recv(1)
        os.kill(command, received[0] if received else signal.SIGKILL)


def run(words: List[str], commands: Dict[str, Any]) -> Any:
    """Do what a process with this command line does."""
    name, *others = words
    if name in LOGGING_FIRST:
        logging.root.handlers.clear()
    if name != "python":
        sys.argv = words
        return commands[name].load()()
    sys.argv = others
    sys.path[0] = os.path.dirname(os.path.abspath(others[0]))
    runpy.run_path(others[0], run_name="__main__")
    return None


def end(result: Any) -> None:
    """End as Python does, but leave modules and objects to the system: to free them takes long."""
    if isinstance(result, str):
        print(result, file=sys.stderr)
        result = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(result or 0)


def main() -> None:
    """Entry point."""
    for module in PRELOADED:
        import_module(module)
    commands = entry_points()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    gc.freeze()  # a collection would copy what is shared
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen()
        request = wait_for_client(listener)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    try:
        result = run(request["words"], commands)
    except SystemExit as stop:
        result = stop.code
    except BaseException:
        traceback.print_exc()
        result = 1
    end(result)


if __name__ == "__main__":
    main()
