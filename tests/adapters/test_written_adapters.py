"""Do the adapters that the pages show work as they stand there, and in ten lines?"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from adapter_runs import EXAMPLES, KIT, ROOT, model_examples

PAGE, KITS = ROOT / "docs" / "adapters.md", KIT / "README.md"
LANGUAGE = EXAMPLES / "text-language"


def blocks(page: Path, language: str) -> list[str]:
    """Return the blocks of a language in a page."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def written(where: Path, declaration: str, script: str) -> Path:
    """Write an adapter as a page shows it."""
    where.mkdir()
    (where / "cog-adapter.yaml").write_text(declaration)
    named = re.search(r"^script: (\S+)", declaration, re.MULTILINE)
    assert named is not None
    (where / named[1]).write_text(script)
    (where / named[1]).chmod(0o755)
    return where


def cogbuild(project: Path, *words: object) -> str:
    """Return what a command prints in a project."""
    env = os.environ | {"COGBUILD_DATA_DIR": str(project / ".cogbuild")}
    command = [sys.executable, "-m", "cogbuild", *map(str, words)]
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def made_by(adapter: Path, project: Path) -> Path:
    """Let it be checked, and build an example model with it; returns what it made."""
    assert "keeps the contract" in cogbuild(project, "adapters", "check", adapter, "--quick")
    cogbuild(project, "models", "add", LANGUAGE)
    cogbuild(project, "adapt", "--adapter-dir", adapter)
    (row,) = json.loads(cogbuild(project, "artifacts", "ls", "--json"))["artifacts"]
    return Path(row["artifacts"][0]["uri"].removeprefix("file://"))


@pytest.mark.parametrize(
    "text",
    [
        blocks(PAGE, "python")[0],
        blocks(PAGE, "sh")[0],
        blocks(KITS, "python")[0],
        blocks(KITS, "sh")[0],
        blocks(ROOT / "README.md", "sh")[2],
    ],
)
def test_an_adapter_takes_ten_lines(text: str) -> None:
    """Blank ones apart."""
    assert len([line for line in text.splitlines() if line.strip()]) <= 10


@pytest.mark.slow
def test_the_kits_page_shows_one_in_shell(tmp_path: Path) -> None:
    """The sums are right. Those of docs/adapters.md are checked with the command line."""
    made = made_by(written(tmp_path / "sums", blocks(PAGE, "yaml")[1], blocks(KITS, "sh")[0]), tmp_path)
    subprocess.run(["sha256sum", "--quiet", "--check", made], cwd=LANGUAGE, check=True)


@pytest.mark.slow
def test_the_kits_page_shows_one_in_python(tmp_path: Path) -> None:
    """It answers as the examples say."""
    made = made_by(
        written(tmp_path / "answers", blocks(KITS, "yaml")[0], blocks(KITS, "python")[0]), tmp_path
    )
    assert json.loads(made.read_text()) == [example["output"] for example in model_examples(LANGUAGE)]
