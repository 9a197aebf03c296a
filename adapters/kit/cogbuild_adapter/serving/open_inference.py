"""The Open Inference Protocol (V2) over Cog's server: what KServe, Seldon Core and Triton's clients speak.

``MODEL_NAME`` and ``MODEL_VERSION`` are what the model is called here, ``PORT`` is where it is served.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote, urlsplit

from .cog_server import (
    BUSY,
    COMMAND,
    DEFUNCT,
    GONE,
    READY,
    SETUP_FAILED,
    CogServer,
    InputRefused,
    NotReady,
    PredictionFailed,
)
from .door import BadBody, Door, serve
from .tensors import Interface, Mismatch, Unfit
from .wire import HEADER, read_request, write_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

_MODEL = re.compile(r"/v2/models/(?P<name>[^/]+)(/versions/(?P<version>[^/]+))?(?P<rest>/ready|/infer)?")


class OpenInference(Door):
    """One connection."""

    interface: Interface
    name: str
    version: str

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        """Answer about the server, its health and the model."""
        path = urlsplit(self.path).path.rstrip("/")
        status = self.server.cog.status()
        if path in ("", "/v2/health/live"):
            self._health(status not in (SETUP_FAILED, DEFUNCT, GONE))
        elif path == "/v2/health/ready":
            self._health(status in (READY, BUSY))
        elif path == "/v2":
            about = {"name": "cogbuild", "version": "1", "extensions": ["binary_tensor_data"]}
            self.answer_json(200, about)
        elif (rest := self._of_model(path)) == "/ready":
            self._health(status in (READY, BUSY))
        elif rest == "":
            facts = {"name": self.name, "versions": [self.version], "platform": "cog"}
            self.answer_json(200, {**facts, **self.interface.metadata()})
        elif rest is not None:
            self._refuse(405, "inference is asked for with POST")

    def do_POST(self) -> None:  # noqa: N802 - http.server's name
        """Predict."""
        try:
            body = self.body()
        except BadBody as bad:
            self._refuse(bad.code, str(bad))
            return
        rest = self._of_model(urlsplit(self.path).path)
        if rest == "/infer":
            self._infer(body)
        elif rest is not None:
            self._refuse(405, "only /infer is asked for with POST")

    def _of_model(self, path: str) -> str | None:
        """Return what of the model is asked for; answers where that is nothing."""
        found = _MODEL.fullmatch(path)
        if found is None:
            self._refuse(404, f"there is no {path}")
        elif unquote(found["name"]) != self.name:
            self._refuse(404, f"the model here is {self.name}, not {unquote(found['name'])}")
        elif found["version"] and unquote(found["version"]) != self.version:
            self._refuse(404, f"the version here is {self.version}, not {unquote(found['version'])}")
        else:
            return found["rest"] or ""
        return None

    def _infer(self, body: bytes) -> None:
        try:
            request = read_request(body, self.headers.get(HEADER))
            self.interface.check_wanted(request.wanted)
            output = self.server.cog.predict(self.interface.read(request.tensors), self.client_waits)
            facts = {"model_name": self.name, "model_version": self.version}
            answer, size = write_answer(request, self.interface.write(output), facts)
        except (Mismatch, InputRefused) as error:
            self._refuse(400, str(error))
        except NotReady as error:
            self._refuse(503, str(error))
        except (PredictionFailed, Unfit) as error:
            self._refuse(500, str(error))
        else:
            if size is None:
                self.answer(200, answer)
            else:
                self.answer(200, answer, "application/octet-stream", {HEADER: str(size)})

    def _health(self, good: bool) -> None:
        self.answer(200 if good else 503)

    def _refuse(self, code: int, text: str) -> None:
        self.answer_json(code, {"error": text})


def main(schema: str | os.PathLike[str], command: Sequence[str] = COMMAND) -> NoReturn:
    """Serve the model in the working directory, whose OpenAPI schema is the file *schema*, above *command*."""
    document: dict[str, Any] = json.loads(Path(schema).read_text(encoding="utf-8"))
    facts = {
        "interface": Interface(document),
        "name": os.environ.get("MODEL_NAME") or "model",
        "version": os.environ.get("MODEL_VERSION") or "1",
    }
    port = int(os.environ.get("PORT") or 8080)
    cog = CogServer(command=command)
    serve(type("Served", (OpenInference,), facts), cog, port=port, host=os.environ.get("HOST", ""))
