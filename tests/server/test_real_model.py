"""A real Cog model under Cog's own server: does a client of 2021 get what it got then?"""

from __future__ import annotations

import io
import json
import subprocess
import zipfile
from pathlib import Path

import pytest
from site_of_tests import Site

EXAMPLE = Path(__file__).parents[2] / "examples" / "text-language"


def _zipped(**changed: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted(path for path in EXAMPLE.rglob("*") if path.is_file()):
            if "__pycache__" not in path.parts:
                name = str(path.relative_to(EXAMPLE))
                archive.writestr(zipfile.ZipInfo(name), changed.get(name, path.read_text()))
    return out.getvalue()


@pytest.mark.slow
def test_a_model_is_tested_by_cogs_own_server(tmp_path: Path) -> None:
    """Its examples are predicted, its inputs told as in 2021; one wrong example keeps it out, and is named."""
    site = Site(tmp_path)
    site.names = []  # the shipped test, not the stand-in
    server = site.start()
    url = f"{server.client.base_url}/v1/repos/ada/words/packages/"
    (tmp_path / "good.zip").write_bytes(_zipped())
    wishes = (EXAMPLE / "cog-adapters.yaml").read_text()
    wrong = wishes.replace("language: en", "language: fr", 1)
    assert wrong != wishes
    (tmp_path / "bad.zip").write_bytes(_zipped(**{"cog-adapters.yaml": wrong, "README.md": "another"}))

    def curl(name: str) -> list[dict[str, object]]:
        command = ["curl", "-sN", "-X", "PUT", "-F", f"file=@{name}", url]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    last = curl("good.zip")[-1]
    model = last["model"]
    assert isinstance(model, dict), last
    assert model["run_arguments"]["text"] == {
        "type": "str",
        "default": None,
        "min": None,
        "max": None,
        "options": None,
        "help": "A sentence or more",
    }
    assert model["run_arguments"]["among"]["default"] == "de,en,es,fr,it,nl"
    said = curl("bad.zip")[-1]
    assert said["type"] == "error"
    assert "it said  example 1: the output is " in str(said["data"])
    assert [item["id"] for item in server.client.get(url).json()] == [model["id"]]
    assert server.stop() == 0
