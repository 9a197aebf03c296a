"""The same graph for other tools: every pair depends on its model's files and on its adapter's script."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from _bench import DOIT, run
from make_store import write_adapter, write_model

if TYPE_CHECKING:
    from pathlib import Path

PLAIN_DODO = '''"""A task a pair with its files as file_dep, as doit is meant to be used without cogbuild."""
import json, os

GRAPH = json.load(open("graph.json"))

def task_adapt():
    files = {model: [os.path.join(model, name) for name in sorted(os.listdir(model))] for model in GRAPH["models"]}
    for model, inside in files.items():
        for script in GRAPH["scripts"]:
            target = f"out/{os.path.basename(model)}.{script.split('/')[1]}"
            yield {
                "name": target,
                "actions": [(touch, [target])],
                "file_dep": [*inside, script],
                "targets": [target],
            }

def touch(target):
    open(target, "w").close()
'''


def graph(root: Path, count: int, adapters: int, files: int) -> None:
    """Write files and build files at *root* and build everything once with ninja."""
    if (root / "ready").exists():
        return
    models = [f"models/model-{number:06}" for number in range(count)]
    for number, model in enumerate(models):
        write_model(root / model, number, files)
    names = [f"target-{number}" for number in range(adapters)]
    for name in names:
        write_adapter(root, name)
    scripts = [f"adapters/{name}/adapter.sh" for name in names]
    lines = ["rule adapt", "  command = : > $out"]
    for number, model in enumerate(models):
        inside = " ".join(sorted(f"{model}/{item.name}" for item in (root / model).iterdir()))
        lines += [
            f"build out/{number:06}.{name}: adapt {inside} {script}"
            for name, script in zip(names, scripts, strict=True)
        ]
    (root / "build.ninja").write_text("\n".join(lines) + "\n")
    (root / "graph.json").write_text(json.dumps({"models": models, "scripts": scripts}))
    (root / "plain.py").write_text(PLAIN_DODO)
    run("ninja", cwd=root)
    (root / "ready").touch()


def plain_doit(root: Path) -> tuple[str, ...]:
    """Return the command of plain doit on the graph at *root*, after everything was built once."""
    command = (*DOIT, "-f", "plain.py", "--db-file", ".plain-doit", "--backend", "sqlite3")
    if not (root / "plain-ready").exists():
        run(*command, cwd=root)
        (root / "plain-ready").touch()
    return command
