"""Runs a command in server.py as if it were this process.

python -IS client.py SOCKET COMMAND WORDS...
"""

import json
import os
import signal
import socket
import sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    request = {
        "words": sys.argv[2:],
        "folder": os.getcwd(),
        "environment": dict(os.environ),
    }
    for passed_on in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(passed_on, lambda number, _: server.send(bytes([number])))
    socket.send_fds(server, [b"\0"], [0, 1, 2])
    server.sendall(json.dumps(request).encode() + b"\n")
    status = server.recv(4)
if not status:
    sys.exit(f"{sys.argv[2]}: the server of forked commands is gone")
status = int.from_bytes(status, "little")
if os.WIFSIGNALED(status):
    signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
    os.kill(os.getpid(), os.WTERMSIG(status))
sys.exit(os.WEXITSTATUS(status))
