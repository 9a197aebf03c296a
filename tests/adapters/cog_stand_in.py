"""A stand-in for Cog's server, which answers as it does and starts in no time; what it is told comes as inputs.

    {"sleep": SECONDS}   takes that long; meanwhile the server is busy
    {"fail": TEXT}       the prediction fails
    {"refuse": TEXT}     the input is refused
    {"end": CODE}        the server ends
    {"output": VALUE}    is the output; else the inputs are

``STAND_IN_SETUP`` is how many seconds it is STARTING, or ``fails``.
"""

from __future__ import annotations

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_BORN = time.monotonic()
_SETUP = os.environ.get("STAND_IN_SETUP", "0")
_busy = threading.Lock()


def _status() -> str:
    if _SETUP == "fails":
        return "SETUP_FAILED"
    if time.monotonic() - _BORN < float(_SETUP):
        return "STARTING"
    return "BUSY" if _busy.locked() else "READY"


def _predicted(values: dict[str, Any]) -> dict[str, Any]:
    time.sleep(values.get("sleep", 0))
    if "end" in values:
        os._exit(values["end"])
    if "fail" in values:
        return {"status": "failed", "error": values["fail"], "output": None}
    return {"status": "succeeded", "output": values.get("output", values)}


class _StandIn(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(200, {"status": _status()})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if _status() not in ("READY", "BUSY"):
            self._answer(503, {"error": "setup has not ended"})
        elif "refuse" in body["input"]:
            where = {"loc": ["body", "input", "text"], "msg": body["input"]["refuse"]}
            self._answer(422, {"detail": [where]})
        elif not _busy.acquire(blocking=False):
            self._answer(409, {"detail": "Already running a prediction"})
        else:
            try:
                answer = _predicted(body["input"])
            finally:
                _busy.release()
            self._answer(200, answer)

    def _answer(self, code: int, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), _StandIn).serve_forever()
