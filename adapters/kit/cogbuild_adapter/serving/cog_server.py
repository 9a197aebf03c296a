"""Cog's own server as a child that only this machine reaches: started, asked, ended.

A busy server refuses a prediction; here it waits for its turn. Knows nothing of the protocol that is served above it.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LOOPBACK = "127.0.0.1"
COMMAND = ("python", "-m", "cog.server.http", "--host", LOOPBACK)
#: What the child runs first: it ends with its parent, however that ends, and takes a name after its process ID, or says
#: that somebody has it. Cog's server (coglet 0.23) talks to its worker over an abstract socket named after its process
#: ID alone: two servers that share a network but not their IDs, as containers on the host's network do, disturb each
#: other. The second does not start, or the worker of one goes to the other and both wait for ever.
_FIRST = """
import ctypes, errno, os, socket, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
tells = int(sys.argv[2])
name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
try:
    taken = f"@coglet-{os.getpid()}-" in open("/proc/net/unix", errors="replace").read()
except OSError:
    taken = False
try:
    name.bind(f"\\0cogbuild-cog-server-{os.getpid()}")
except OSError as error:
    taken = taken or error.errno == errno.EADDRINUSE
if taken:
    os.write(tells, b"taken")
    sys.exit()
os.set_inheritable(tells, False)
name.set_inheritable(True)
os.execvp(sys.argv[3], sys.argv[3:])
"""
_TRIES = 1000  # process IDs that others may have before it is somebody's mistake
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1  # seconds between two questions to a busy server
_ANSWER_IN = 5.0  # seconds for what is answered at once
#: What the server may say of itself, and GONE where it does not run.
STARTING, READY, BUSY, SETUP_FAILED, DEFUNCT, GONE = (
    "STARTING",
    "READY",
    "BUSY",
    "SETUP_FAILED",
    "DEFUNCT",
    "GONE",
)


class NotReady(Exception):
    """The server cannot predict now: it is not set up, or it has ended."""


class InputRefused(Exception):
    """The model does not take this input."""


class PredictionFailed(Exception):
    """The model took the input and then failed."""


class Abandoned(ConnectionError):
    """Whoever asked for the prediction has gone before its turn came."""


class CogServer:
    """Cog's server for the model in *directory*.

    *env* is added to this process's variables; *at_once* is how many predictions it takes at the same time.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] = ".",
        *,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = COMMAND,
        at_once: int | None = None,
    ) -> None:
        self.directory = Path(directory)
        self._env = {**os.environ, **(env or {})}
        self._command = list(command)
        self._turns = threading.Semaphore(at_once or int(self._env.get("COG_MAX_CONCURRENCY") or 1))
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> None:
        """Start the server; call it from the main thread, with whose end the server ends."""
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            self.port = probe.getsockname()[1]
        env = {**self._env, "PORT": str(self.port)}
        python = shutil.which(self._command[0], path=env.get("PATH")) or self._command[0]
        for _ in range(_TRIES):
            if self._has_its_name(python, env):
                return
        raise NotReady(f"{_TRIES} process IDs are those of other Cog servers on this network")

    def _has_its_name(self, python: str, env: Mapping[str, str]) -> bool:
        """Start the child; whether no other server goes by its process ID."""
        told, tells = os.pipe()
        with open(told, "rb") as ends:
            try:
                self._process = subprocess.Popen(
                    [python, "-c", _FIRST, str(os.getpid()), str(tells), *self._command],
                    cwd=self.directory,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[tells],
                )
            finally:
                os.close(tells)
            taken = ends.read()
        if taken:
            self._process.wait()
        return not taken

    @property
    def code(self) -> int | None:
        """How the server ended; None while it runs."""
        return self._process.poll() if self._process is not None else 0

    def status(self) -> str:
        """Return what the server says of itself: one of the words above."""
        if self.code is not None:
            return GONE
        try:
            code, answer = self._ask("GET", "/health-check", within=_ANSWER_IN)
        except (OSError, http.client.HTTPException):
            return STARTING if self.code is None else GONE
        return answer.get("status", STARTING) if code == 200 else STARTING

    def wait_until_ready(self, patience: float) -> None:
        """Return when the model is set up; ``NotReady`` where that fails or takes longer than *patience* seconds."""
        deadline = time.monotonic() + patience
        while (status := self.status()) not in (READY, BUSY):
            if status != STARTING:
                raise NotReady(f"the model's setup() fails: its server says {status}")
            if time.monotonic() > deadline:
                raise NotReady(f"the model is not set up after {patience:g} s")
            time.sleep(_LONGEST_PAUSE)

    def schema(self) -> dict[str, Any] | None:
        """Return the OpenAPI schema that lies with the model; None where there is none."""
        file = self.directory / ".cog" / "openapi_schema.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    def predict(self, inputs: Mapping[str, Any], wanted: Callable[[], bool] = lambda: True) -> Any:
        """Return the output for *inputs*, after those that came before.

        Raises ``InputRefused``, ``PredictionFailed`` and ``NotReady``, and ``Abandoned`` where it is not *wanted* any more
        when its turn comes: platforms give up after a minute and ask again.
        """
        with self._turns:
            code, answer = self._accepted({"input": dict(inputs)}, wanted)
        if code == 200 and answer.get("status") == "succeeded":
            return answer.get("output")
        if code in (400, 422):
            raise InputRefused(_detail(answer))
        if code == 503:
            raise NotReady(_detail(answer))
        raise PredictionFailed(str(answer.get("error") or _detail(answer)))

    def _accepted(self, body: dict[str, Any], wanted: Callable[[], bool]) -> tuple[int, dict[str, Any]]:
        """Ask until the server is not busy: for a moment after an answer it may still be."""
        pause = _FIRST_PAUSE
        while True:
            if not wanted():
                raise Abandoned
            try:
                code, answer = self._ask("POST", "/predictions", body)
            except (OSError, http.client.HTTPException) as error:
                if self.code is None and isinstance(error, ConnectionRefusedError):
                    raise NotReady("the model's server is starting") from None
                raise NotReady(f"the model's server went away ({error})") from None
            if code != 409:
                return code, answer
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, within: float | None = None
    ) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=within)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            raw = response.read()
        finally:
            connection.close()
        try:
            answer = json.loads(raw)
        except ValueError:
            answer = {"error": raw.decode(errors="replace")[:500]}
        return response.status, answer if isinstance(answer, dict) else {"error": str(answer)}

    def stop(self, grace: float = 10.0) -> None:
        """End the server, after *grace* seconds by force."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _detail(answer: Mapping[str, Any]) -> str:
    """Return why Cog's server refused something, in one line."""
    detail = answer.get("detail", answer.get("error", ""))
    if isinstance(detail, list):
        rows = [row for row in detail if isinstance(row, dict)]
        return "; ".join(
            f"{'.'.join(str(part) for part in row.get('loc', ())[2:]) or 'input'}: {row.get('msg', '')}"
            for row in rows
        )
    return str(detail) or "the model's server gives no reason"
