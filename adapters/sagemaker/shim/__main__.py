"""Serve a Cog model as SageMaker asks for it: `/ping` and `/invocations` on port 8080, above Cog's own server.

Runs in the model's image, by the image's Python and its standard library alone: ``python -I -S DIRECTORY serve``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from sagemaker_bodies import Refused, inputs_of, written
from sagemaker_model_dir import take_over
from serving.cog_server import (
    BUSY,
    READY,
    CogServer,
    InputRefused,
    NotReady,
    PredictionFailed,
)
from serving.door import BadBody, Door, serve

_MODEL_DIR = Path(os.environ.get("SM_MODEL_DIR") or "/opt/ml/model")
_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
#: What batch transform asks for before it begins.
_MAX_PAYLOAD_MB = 6


class SageMaker(Door):
    """The three paths that SageMaker calls."""

    def do_GET(self) -> None:  # noqa: N802 - the library's name
        """Say whether the model is set up, and how many predictions it takes at once."""
        path = self.path.partition("?")[0]
        if path == "/ping":
            status = self.server.cog.status()
            self.answer_json(200 if status in (READY, BUSY) else 503, {"status": status})
        elif path == "/execution-parameters":
            self.answer_json(200, _execution_parameters())
        else:
            self._refuse(404, f"there is no {path} here, only /ping and /invocations")

    def do_POST(self) -> None:  # noqa: N802 - the library's name
        """Predict."""
        try:
            data, kind = self._predicted(self.body())
        except (BadBody, Refused) as refused:
            self._refuse(refused.code, str(refused))
        except InputRefused as refused:
            self._refuse(422, str(refused))
        except NotReady as refused:
            self._refuse(503, str(refused))
        except PredictionFailed as failed:
            self._refuse(500, str(failed))
        else:
            self.answer(200, data, kind)

    def _predicted(self, body: bytes) -> tuple[bytes, str]:
        if self.path.partition("?")[0] != "/invocations":
            raise Refused(404, f"nothing is posted to {self.path} here, only to /invocations")
        schema, headers = self.server.cog.schema(), self.headers
        inputs = inputs_of(body, headers.get("Content-Type"), headers.get(_ATTRIBUTES), schema)
        output = self.server.cog.predict(inputs, self.client_waits)
        return written(output, headers.get("Accept"), schema)

    def _refuse(self, code: int, why: str) -> None:
        self.answer_json(code, {"status": "failed", "error": why})


def _execution_parameters() -> dict[str, Any]:
    return {
        "MaxConcurrentTransforms": int(os.environ.get("COG_MAX_CONCURRENCY") or 1),
        "BatchStrategy": "SINGLE_RECORD",
        "MaxPayloadInMB": _MAX_PAYLOAD_MB,
    }


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM."""
    if arguments not in ([], ["serve"]):
        sys.exit(f"this image only serves: its argument is `serve`, not {' '.join(arguments)!r}")
    port = os.environ.get("SAGEMAKER_BIND_TO_PORT") or "8080"
    if not port.isdecimal():
        sys.exit(f"SAGEMAKER_BIND_TO_PORT is {port!r}, but it has to be a port's number")
    try:
        found = take_over(_MODEL_DIR, Path.cwd())
    except OSError as error:
        sys.exit(f"what is in {_MODEL_DIR} cannot be put beside the model: {error}")
    env = {"SM_MODEL_DIR": str(_MODEL_DIR)}
    if found:
        print(f"{found} files of {_MODEL_DIR} stand in the model's directory", file=sys.stderr, flush=True)
        env["COG_WEIGHTS"] = os.environ.get("COG_WEIGHTS") or str(_MODEL_DIR)
    serve(SageMaker, CogServer(env=env), port=int(port))


if __name__ == "__main__":
    main(sys.argv[1:])
