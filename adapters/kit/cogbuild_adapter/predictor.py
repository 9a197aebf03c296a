"""The model's predictor, loaded and called as Cog's own server does it.

Stands on the real ``cog`` package, so types, defaults and checks are Cog's and not a copy of them.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cogbuild_adapter.contract import AdapterError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType


@dataclass(frozen=True)
class Predictor:
    """A predictor that is set up."""

    value: Any  # the instance, or the function
    module: ModuleType
    inputs: Mapping[str, Any]  # Cog's own InputField by name
    loop: asyncio.AbstractEventLoop

    def predict(self, values: Mapping[str, Any]) -> Any:
        """Return the output for *values*; defaults are filled in and everything is checked, as Cog does.

        Iterators are read to their end and returned as lists.
        """
        from cog._inspector import check_input

        checked = check_input(
            dict(self.inputs), {name: self._given(name, value) for name, value in values.items()}
        )
        arguments = {name: _downloaded(value) for name, value in checked.items()}
        return self.loop.run_until_complete(_finished(_method(self.value)(**arguments)))

    def _given(self, name: str, value: Any) -> Any:
        """Return an example's value; ``@file`` names a file of the model, as in Cog's command line."""
        field = self.inputs.get(name)
        is_file = field is not None and field.type.primitive.name in ("PATH", "FILE")
        return value[1:] if is_file and isinstance(value, str) and value.startswith("@") else value


def load() -> Predictor:
    """Import the model's predictor from the working directory and call its ``setup()``."""
    file = os.environ["COG_MODEL_PYTHON_MODULE"].replace(".", "/") + ".py"
    name = os.environ.get("COG_MODEL_CLASS", "")
    sys.path.insert(0, os.getcwd())
    try:
        from cog._inspector import create_predictor
        from cog.predictor import extract_setup_weights, has_setup_weights, load_predictor_from_ref
    except ImportError as error:
        raise AdapterError("the adapter's environment needs the package cog, 0.23 or later") from error
    value = load_predictor_from_ref(f"{file}:{name}" if name else file)
    # Cog imports a/b.py as the module b.
    module = importlib.import_module(os.path.basename(file).removesuffix(".py"))
    is_function = inspect.isfunction(value)
    described = create_predictor(
        module.__name__, name or (value.__name__ if is_function else type(value).__name__)
    )
    loop = asyncio.new_event_loop()
    if not is_function and hasattr(value, "setup"):
        arguments = {"weights": extract_setup_weights(value)} if has_setup_weights(value) else {}
        loop.run_until_complete(_finished(value.setup(**arguments)))
    return Predictor(value, module, described.inputs, loop)


def _method(value: Any) -> Any:
    if inspect.isfunction(value):
        return value
    from cog.predictor import _user_method_owner

    return value.run if _user_method_owner(type(value), "run") else value.predict


def _downloaded(value: Any) -> Any:
    """Return *value* with URLs and ``data:`` URIs of path inputs turned into local files."""
    if isinstance(value, list):
        return [_downloaded(item) for item in value]
    return value.convert() if type(value).__name__ == "URLPath" else value


async def _finished(result: Any) -> Any:
    """Return *result* awaited, and read to its end where it is an iterator."""
    if inspect.isawaitable(result):
        result = await result
    if inspect.isasyncgen(result):
        return [item async for item in result]
    return list(result) if inspect.isgenerator(result) else result
