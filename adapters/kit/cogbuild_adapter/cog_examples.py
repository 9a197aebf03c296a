"""The model's examples, against Cog's server at some address."""

from __future__ import annotations

import json
import os
import time
import urllib.error
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogbuild_adapter.contract import AdapterError
from cogbuild_adapter.images.running import PATIENCE, ask, inputs_to_send

if TYPE_CHECKING:
    from cogbuild_adapter.fidelity import Differences


def given_examples() -> list[dict[str, Any]]:
    """Return the model's examples as they were given, which may be none."""
    found: list[dict[str, Any]] = json.loads(
        Path(os.environ["COG_EXAMPLES_FILE"]).read_text(encoding="utf-8")
    )
    return found


def not_ready(url: str) -> str | None:
    """Return why the model is not set up yet; nothing where it is."""
    status = _status(url)
    if status in ("SETUP_FAILED", "DEFUNCT"):
        raise AdapterError(f"the model's setup() fails: its server says {status}")
    return None if status == "READY" else f"the server says {status}"


def _status(url: str) -> str | None:
    try:
        found: str = ask(f"{url}/health-check")["status"]
    except (OSError, ValueError):
        return None
    return found


def checks_input(url: str, schema: dict[str, Any]) -> None:
    """Where an input has to be given, the server refuses a request without it; it does so only with a schema."""
    if not schema["components"]["schemas"]["Input"].get("required"):
        return
    try:
        answer = ask(f"{url}/predictions", {"input": {}})
    except urllib.error.HTTPError as error:
        if error.code == 422:
            return
        raise AdapterError(f"to no input the server answers {error.code}, not 422") from None
    raise AdapterError(
        f"the server takes no input where one has to be given, and says {answer.get('status')}"
    )


def predicts(url: str, given: list[dict[str, Any]], seen: Differences) -> None:
    """Predict each example, and compare with its output where it has one."""
    for number, example in enumerate(given, 1):
        where = f"example {number}"
        try:
            answer = _predicted(url, inputs_to_send(example["input"]))
        except urllib.error.HTTPError as error:
            raise AdapterError(f"{where}: the server answers {error.code}: {error.read(300)!r}") from None
        if answer.get("status") != "succeeded":
            raise AdapterError(
                f"{where}: the prediction ends as {answer.get('status')}: {answer.get('error')}"
            )
        if example.get("output") is not None:
            seen.check_json(where, example["output"], answer["output"])


def _predicted(url: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to one request; for a moment after one has ended, the server may still be busy with it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            answer: dict[str, Any] = ask(f"{url}/predictions", {"input": values})
        except urllib.error.HTTPError as error:
            if error.code != 409 or time.monotonic() > deadline:
                raise
        else:
            return answer
        time.sleep(0.05)
