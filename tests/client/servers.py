"""A real server as a process of its own, and a real connection to it that breaks where a test wants it to."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

import pytest
from conftest import Sandbox

from cogbuild.cli import main

COGBUILD = [sys.executable, "-m", "cogbuild"]


class Serving:
    """``cogbuild server`` in the sandbox's project; ended and begun again on the same port."""

    def __init__(self, box: Sandbox, *options: str, program: Path | None = None) -> None:
        self._box = box
        self._options = options
        self._program = COGBUILD if program is None else [sys.executable, str(program)]
        self._port = 0
        self._process: subprocess.Popen[str] | None = None
        self.begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """Its port."""
        return self._port

    def begin(self) -> None:
        """Start it and wait until it listens."""
        # What nobody asked for would move what is compared.
        command = [*self._program, "server", "--backfill", "off", "--port", str(self._port), *self._options]
        log = (self._box.root / "server.log").open("a")
        with log:
            self._process = subprocess.Popen(
                command,
                cwd=self._box.root / "site",
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment(),
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert " on http://" in line, line + (self._box.root / "server.log").read_text()
        self._port = int(line.rpartition(":")[2])

    def end(self, *, kill: bool = False) -> int:
        """End it, as SIGTERM does or at once."""
        process = self._process
        if process is None:
            return 0
        (process.kill if kill else process.terminate)()
        code = process.wait(timeout=60)
        assert process.stdout is not None
        process.stdout.close()
        self._process = None
        return code


class Cutting:
    """A proxy that cuts each connection after so many bytes of the server's answers, or of the client's requests.

    *cuts* are (direction, bytes) for one connection after the other; when they are used up, nothing is cut any more.
    """

    def __init__(self, port: int, cuts: list[tuple[str, int]]) -> None:
        self._to = port
        self._cuts = list(cuts)
        self.connections = 0
        self._open: dict[tuple[socket.socket, socket.socket], int] = {}
        self._guard = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def left(self) -> int:
        """How many cuts were not made."""
        return len(self._cuts)

    def close(self) -> None:
        """Cut everything."""
        self._listening.close()
        with self._guard:
            for pair in list(self._open):
                for one in pair:
                    _cut(one)

    def _serve(self) -> None:
        while True:
            try:
                ours, _ = self._listening.accept()
            except OSError:
                return
            with self._guard:
                self.connections += 1
                cut = self._cuts.pop(0) if self._cuts else None
            try:
                theirs = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                _cut(ours)
                continue
            pair = (ours, theirs)
            with self._guard:
                self._open[pair] = 2
            for direction, source, sink in (("request", ours, theirs), ("answer", theirs, ours)):
                left = cut[1] if cut is not None and cut[0] == direction else None
                threading.Thread(target=self._copy, args=(pair, source, sink, left), daemon=True).start()

    def _copy(
        self,
        pair: tuple[socket.socket, socket.socket],
        source: socket.socket,
        sink: socket.socket,
        left: int | None,
    ) -> None:
        whole = False
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data if left is None else data[:left])
                if left is not None and (left := left - len(data)) <= 0:
                    break
            else:
                whole = True
                sink.shutdown(socket.SHUT_WR)
        with self._guard:
            ended = self._open.get(pair, 0) - 1
            self._open[pair] = ended
            if not whole or ended <= 0:
                self._open.pop(pair, None)
                for one in pair:
                    _cut(one)


def _cut(one: socket.socket) -> None:
    """End a connection as a cable that is pulled out is noticed: with a reset."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.shutdown(socket.SHUT_RDWR)
    one.close()


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment without what would send a client elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COGBUILD_")}
    return {**kept, "COLUMNS": "80", **more}


def command(box: Sandbox, *arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ``cogbuild`` in the sandbox's project."""
    words = [*COGBUILD, *map(str, arguments)]
    return subprocess.run(
        words,
        cwd=box.root / "site",
        env=environment(**environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class Inside:
    """Runs ``cogbuild`` in this process, for tests that ask much."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfdbinary

    def __call__(self, *arguments: object, columns: int = 80) -> tuple[int, bytes, bytes]:
        """Run one command in the sandbox's project; return its exit code, stdout and stderr."""
        self._monkeypatch.setattr(sys, "argv", ["cogbuild", *map(str, arguments)])
        self._monkeypatch.setenv("COLUMNS", str(columns))
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, *self._capfd.readouterr()


@pytest.fixture
def inside(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Inside:
    """The command line in this process, in the sandbox's project."""
    monkeypatch.chdir(box.root / "site")
    for name in ("NO_COLOR", "COGBUILD_DATA_DIR", "COGBUILD_SERVER", "COGBUILD_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return Inside(monkeypatch, capfdbinary)
