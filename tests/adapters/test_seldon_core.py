"""Does seldon-core make what MLServer, or a container, serves as Triton's client expects, and the resource for it?"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from adapter_runs import (
    ADAPTERS,
    EXAMPLE_NAMES,
    EXAMPLES,
    environment,
    environment_of,
    needs_torch,
    run_script,
    write_model,
)
from adapters_table import keep_cell
from crds import needs_crds, wrong_in
from sites import NEEDS, Site, engine, registries
from test_kserve import resource_of
from test_open_inference import asked, row
from test_serving import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapter_runs import Ran

pytestmark = pytest.mark.slow
LANGUAGE = EXAMPLES / "text-language"
#: No registry and no engine: what version 2 needs of a site.
NOWHERE = Site("127.0.0.1:1", SimpleNamespace(env={}), None)


def folder_of(model: Path, scratch: Path, **params: object) -> Ran:
    """Return what the adapter makes of *model* for version 2."""
    made = NOWHERE.run("seldon-core", model, scratch, params=params)
    assert (made.code, made.stdout) == (0, ""), made.log
    return made


@pytest.mark.parametrize("name", ["text-language"])
def test_mlserver_serves_the_folder(name: str, tmp_path: Path) -> None:
    """Its own test starts MLServer, and Triton's client gets the examples' outputs."""
    made = folder_of(EXAMPLES / name, tmp_path)
    judged = NOWHERE.judge("seldon-core", EXAMPLES / name, made, tmp_path)
    assert (judged.code, judged.stdout) == (0, ""), judged.log
    assert re.search(
        r"model: largest difference: .* over 3 outputs of 3 examples, in MLServer 1\.\d+\.\d+, asked by tritonclient 2\.",
        judged.log,
    ), judged.log
    keep_cell("seldon-core", name, {"fidelity": judged.fidelity})
