"""MLServer's runtime for a Cog model: Cog's own server runs below it, in a process and with packages of its own.

It lies in the model's folder as ``runtime.py``, beside the kit's modules for servers above Cog's.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlserver import MLModel
from mlserver.errors import MLServerError
from mlserver.types import InferenceResponse, ResponseOutput
from mlserver.utils import get_model_uri

from .cog_server import CogServer, InputRefused, NotReady, PredictionFailed
from .tensors import Interface, Mismatch, Unfit
from .wire import json_of_tensor, tensor_from_json

if TYPE_CHECKING:
    from mlserver.types import InferenceRequest, RequestInput

    from .tensors import Tensor

_PATIENCE = 600.0  # seconds for setup()


class CogRuntime(MLModel):
    """A Cog model."""

    _cog: CogServer | None = None
    _scripts: str | None = None

    async def load(self) -> bool:
        """Start Cog's server and return when the model is set up."""
        self._start(Path(await get_model_uri(self.settings)))
        try:
            await self._elsewhere(self._cog.wait_until_ready, _PATIENCE)
        except NotReady as error:
            await self.unload()
            raise MLServerError(str(error), 503) from None
        return True

    def _start(self, given: Path) -> None:
        folder = given.absolute()
        extra: dict[str, Any] = (self.settings.parameters and self.settings.parameters.extra) or {}
        _check_python(extra.get("python") or "")
        schema = folder / "src" / ".cog" / "openapi_schema.json"
        self._face = Interface(json.loads(schema.read_text(encoding="utf-8")))
        self._scripts = tempfile.mkdtemp(prefix="cog-runtime-")
        self._cog = CogServer(folder / "src", env=_variables(folder, Path(self._scripts), extra))
        self._cog.start()

    async def unload(self) -> bool:
        """End Cog's server."""
        if self._cog is not None:
            await self._elsewhere(self._cog.stop)
        if self._scripts is not None:
            shutil.rmtree(self._scripts, ignore_errors=True)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Return the prediction for *payload*, after those that came before."""
        wanted = {output.name for output in payload.outputs or ()}
        try:
            self._face.check_wanted(wanted)
            inputs = self._face.read(_tensor(item) for item in payload.inputs)
            made = self._face.write(await self._elsewhere(self._cog.predict, inputs))
        except (Mismatch, InputRefused) as error:
            raise MLServerError(str(error), 400) from None
        except NotReady as error:
            raise MLServerError(str(error), 503) from None
        except (PredictionFailed, Unfit) as error:
            raise MLServerError(str(error), 500) from None
        outputs = [_output(tensor) for tensor in made if not wanted or tensor.name in wanted]
        return InferenceResponse(
            model_name=self.name, model_version=self.version, id=payload.id, outputs=outputs
        )

    async def _elsewhere(self, call: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, call, *arguments)


def _tensor(item: RequestInput) -> Any:
    parameters = item.parameters.model_dump(exclude_none=True) if item.parameters else {}
    row = {
        "name": item.name,
        "shape": item.shape,
        "datatype": str(getattr(item.datatype, "value", item.datatype)),
    }
    return tensor_from_json({**row, "parameters": parameters, "data": list(item.data.root)})


def _output(tensor: Tensor) -> ResponseOutput:
    row = json_of_tensor(tensor)
    if tensor.datatype == "BYTES":  # gRPC takes bytes alone, and HTTP makes text of them
        row["data"] = [item.encode() for item in row["data"]]
    return ResponseOutput(**row)


def _check_python(wanted: str) -> None:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if wanted and wanted != here:
        raise MLServerError(
            f"the folder's packages are for Python {wanted}, but MLServer runs in {here}: use an MLServer with Python "
            f"{wanted}, or give the model's cog.yaml that python_version",
            500,
        )


def _variables(folder: Path, scripts: Path, extra: dict[str, Any]) -> dict[str, str]:
    """Return how Cog's server runs: with MLServer's Python, and with the folder's packages before all others."""
    # Cog's server spawns `python` from PATH; a link to an environment's Python would lose the environment.
    python = scripts / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    paths = [str(folder / "packages")] if (folder / "packages").is_dir() else []
    paths += [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {
        "PATH": os.pathsep.join([str(scripts), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(paths),
        "COG_PREDICT_TYPE_STUB": extra["predictor"],
        **extra.get("env", {}),
    }
