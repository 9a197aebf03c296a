"""Programs of ours run in processes of their own that need not import everything once more: each is forked off one that has.

``python -P warm.py SOCKET`` is that one. Tests use :class:`Warm`; what a start costs or imports is for tests with a real one.
"""

from __future__ import annotations

import json
import os
import runpy
import socket
import subprocess
import sys
import traceback
from pathlib import Path

_PRELOADED = (
    "doit.doit_cmd",
    "doit.cmd_run",
    "cogbuild.tasks.loader",
    "cogbuild.tasks.running",
    "cogbuild.cli.adapt",
    "cogbuild.engine",
    "cogbuild.workspace",
    "cogbuild.spec.adapter",
    "cogbuild.spec.model",
    "cogbuild.spec.site",
    "cogbuild.report.live",
)


class Warm:
    """Runs modules as ``python -m`` does, in processes forked off one that has imported them."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()]
            )
        ours.settimeout(60)  # nothing that is run here takes so long
        self._socket = ours

    def run(self, *argv: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a module with its arguments to its end."""
        with (cwd.parent / "out").open("w+") as out, (cwd.parent / "err").open("w+") as err:
            order = json.dumps({"argv": argv, "cwd": str(cwd), "env": env}).encode()
            socket.send_fds(self._socket, [len(order).to_bytes(4, "big")], [out.fileno(), err.fileno()])
            self._socket.sendall(order)
            code = int.from_bytes(_exactly(self._socket, 4), "big", signed=True)
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read())
        return subprocess.CompletedProcess(argv, code, *said)

    def close(self) -> None:
        """End the process that is forked."""
        self._socket.close()
        self._process.wait(10)


def _exactly(channel: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        if not (piece := channel.recv(count - len(data))):
            raise EOFError
        data += piece
    return data


def _serve(channel: socket.socket) -> None:
    while True:
        size, fds, _, _ = socket.recv_fds(channel, 4, 2)
        if not size:
            return
        order = json.loads(_exactly(channel, int.from_bytes(size, "big")))
        child = os.fork()
        if child == 0:
            channel.close()
            _become(order["argv"], order["cwd"], order["env"], fds)
        for fd in fds:
            os.close(fd)
        _, status = os.waitpid(child, 0)
        channel.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))


def _become(argv: list[str], cwd: str, env: dict[str, str], fds: list[int]) -> None:
    code = 1
    try:
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        with open(os.devnull, encoding="utf-8") as nothing:
            for fd, number in ((nothing.fileno(), 0), (fds[0], 1), (fds[1], 2)):
                os.dup2(fd, number)
        sys.argv = argv[:]
        sys.path.insert(0, cwd)
        runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    for name in _PRELOADED:
        __import__(name)
    with socket.socket(fileno=int(sys.argv[1])) as mine:
        _serve(mine)
