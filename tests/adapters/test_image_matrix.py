"""Does every adapter that makes images make one of every example model, which predicts what the model does?

The images of one model share all layers but a shim, and each is run once, by its adapter's own test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from adapter_runs import ADAPTER_NAMES, EXAMPLE_NAMES, EXAMPLES, adapter_spec, needs_torch
from adapters_table import keep_cell
from sites import NEEDS

if TYPE_CHECKING:
    from pathlib import Path

    from adapter_runs import Ran
    from sites import Site

pytestmark = [pytest.mark.slow, *NEEDS]
#: Whoever puts an image, or what goes with one, where the site keeps them; the first of them makes it.
MAKERS = ["docker-cpu"] + [
    name
    for name in ADAPTER_NAMES
    if name != "docker-cpu" and "COG_DOCKER_REGISTRY" in (adapter_spec(name).uses or ())
]
#: All but the one with which each maker's own tests prove more.
MODELS = [
    pytest.param(name, marks=[needs_torch] if "torch" in name else [])
    for name in EXAMPLE_NAMES
    if name != "text-language"
]


@pytest.mark.parametrize("model", MODELS)
def test_images_of_an_example_predict_as_it_does(model: str, site: Site, podman: Any, tmp_path: Path) -> None:
    """What is made passes its adapter's test, which runs it and says how far it is from the model."""
    base, why = "", ""
    for adapter in MAKERS:
        if why:
            keep_cell(adapter, model, {"not applicable": f"docker-cpu is not applicable: {why}"})
            continue
        if base:
            made = site.run(adapter, EXAMPLES / model, tmp_path, COG_CPU_IMAGE=base)
        else:
            made = site.cpu_run(EXAMPLES / model, tmp_path)
        if made.code == 100:
            keep_cell(adapter, model, {"not applicable": made.last_line})
            why = "" if base else made.last_line
            continue
        assert made.code == 0, made.log
        base = base or made.stdout.strip()
        judged = _judged(site, adapter, model, made, tmp_path)
        assert (judged.code, judged.stdout) == (0, ""), judged.log
        assert judged.fidelity, judged.log
        keep_cell(adapter, model, {"fidelity": judged.fidelity})
    podman.forget()


def _judged(site: Site, adapter: str, model: str, made: Ran, scratch: Path) -> Ran:
    if made.listed:
        return site.judge(adapter, EXAMPLES / model, made, scratch)
    test = adapter_spec(adapter).test
    return site.run(adapter, EXAMPLES / model, scratch, script=test, COG_ARTIFACT_URI=made.stdout.strip())
