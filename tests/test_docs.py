"""What the documentation shows is what the code does."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cogbuild.cli import root
from cogbuild.spec import AdapterSpec, Settings

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text()
CLI_PAGE = (TOP / "docs" / "cli.md").read_text()

#: What differs from run to run or from machine to machine.
VARYING = [
    (re.compile(r"/home/ada/shop|{shop}"), "SHOP"),
    (re.compile(r"\b0[0-9a-f]{17}\b"), "ATTEMPT"),
    (re.compile(r"\b\d+(\.\d+)? s\b"), "TIME"),
    (re.compile(r"\b\d+s\b"), "AGE"),
    # Keys count the platform and the interpreter of the machine.
    (re.compile(r"(key +)[0-9a-f]{12} now, [0-9a-f]{12}"), r"\1KEY now, KEY"),
    (re.compile(r"(executable file) [0-9a-f]{12}"), r"\1 DIGEST"),
]


def sessions() -> list[tuple[str, list[str]]]:
    """Return (command, lines that it prints) of every terminal session in the README."""
    steps: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append((line[2:], []))
            else:
                steps[-1][1].append(line)
    return steps


def normal(lines: list[str], shop: Path) -> list[str]:
    """Return lines without what differs from run to run, in one order: two streams met in one terminal."""
    text = "\n".join(line.rstrip() for line in lines).replace(str(shop), "{shop}")
    for pattern, word in VARYING:
        text = pattern.sub(word, text)
    return sorted(text.splitlines())


@pytest.mark.slow
def test_the_readmes_sessions_are_what_the_code_prints(tmp_path: Path) -> None:
    """Every command of the README's sessions, run in order, prints what the README shows."""
    (tmp_path / "cogbuild").symlink_to(TOP)
    here = tmp_path
    shop = tmp_path / "shop"
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "200",
    }
    for command, expected in sessions():
        ended = subprocess.run(
            command, shell=True, cwd=here, env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 0, ended.stderr
        assert normal((ended.stdout + ended.stderr).splitlines(), shop) == normal(expected, shop), command
        if command.endswith("cd shop"):
            here = shop


def leaves(command: click.Command, name: str) -> list[tuple[str, click.Command]]:
    """Return every command below *command* with its whole name."""
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            return [
                item
                for sub in command.list_commands(context)
                if (inner := command.get_command(context, sub)) is not None
                for item in leaves(inner, f"{name} {sub}")
            ]
    return [(name, command)]


@pytest.mark.parametrize(
    ("name", "command"), leaves(root, "cogbuild"), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_and_option_is_in_the_manual(name: str, command: click.Command) -> None:
    """A command or option that docs/cli.md does not mention does not ship; each has help text."""
    assert name in CLI_PAGE
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts[0]} has no help"
            assert any(option in CLI_PAGE for option in parameter.opts), f"{name} {parameter.opts}"


@pytest.mark.parametrize(
    "page", ["README.md", *sorted(str(path.relative_to(TOP)) for path in (TOP / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(page: str) -> None:
    """Every relative link of a page names a file that is there."""
    at = TOP / page
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", at.read_text()):
        assert (at.parent / target).exists(), target


def test_every_key_of_an_adapter_is_documented() -> None:
    """docs/adapters.md explains each key of cog-adapter.yaml."""
    text = (TOP / "docs" / "adapters.md").read_text()
    for field in dataclasses.fields(AdapterSpec):
        assert f"`{field.name.replace('env_', 'env: ').split(':')[0]}" in text, field.name


def test_every_setting_is_documented() -> None:
    """Each key of the settings has a row with the variable that goes before it, where there is one."""
    rows = (TOP / "docs" / "models.md").read_text()
    for field in dataclasses.fields(Settings):
        row = next((line for line in rows.splitlines() if line.startswith(f"| `{field.name}` |")), "")
        assert row, field.name
        assert (f"`COGBUILD_{field.name.upper()}`" in row) == (field.name not in ("models", "server")), row
