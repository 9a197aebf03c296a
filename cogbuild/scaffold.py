"""New adapters: a directory that works as it is and passes ``cogbuild adapters check``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cogbuild.errors.housekeeping import BadAdapterName, DirectoryTaken
from cogbuild.objects import disk_errors, make_place
from cogbuild.spec import ADAPTER_FILE
from cogbuild.spec.names import is_adapter_name

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LANGUAGES", "new_adapter"]

_DECLARATION = """name: {name}
script: {script}
description: What this adapter makes, in one line
api: 1                            # the script may end with 100: "not applicable to this model"

# All below is optional; docs/adapters.md explains each key.
# inputs: ["**", "!docs/**"]      # the model's files that the script sees; others do not count
# uses: [COG_MODEL_PYTHON_MODULE] # the COG_ variables that it gets; others do not count
# examples: true                  # $COG_EXAMPLES_FILE: the model's examples as JSON
# params: {{level: 3}}              # $COG_PARAM_LEVEL
# python: {{packages: [numpy], with_model: true}}
# needs: [docker-cpu]             # $COG_ARTIFACT_DOCKER_CPU
# timeout: 30m
# test: {test}                  # runs on what was made, with $COG_ARTIFACT_URI
"""

_SH = """#!/bin/sh
# Runs in the model's directory. What goes to stderr is the log; the one line on stdout says what was made.
set -eu

if [ ! -f cog.yaml ]; then
    echo "there is no cog.yaml" >&2    # the last line of stderr is the reason
    exit 100                           # not applicable to this model
fi

out=$COG_OUTPUT_DIR/{name}.txt
echo "writing the list of files of $COG_REPO_USER/$COG_REPO_NAME" >&2
find . -type f | LC_ALL=C sort | while IFS= read -r file; do cksum "$file"; done >"$out"
echo "$out"
"""

_PYTHON = """#!/usr/bin/env python3
\"\"\"Runs in the model's directory. What goes to stderr is the log; the one line on stdout says what was made.\"\"\"

import hashlib
import json
import os
import sys
from pathlib import Path

if not Path("cog.yaml").is_file():
    print("there is no cog.yaml", file=sys.stderr)  # the last line of stderr is the reason
    sys.exit(100)  # not applicable to this model

files = sorted(path for path in Path().rglob("*") if path.is_file())
print(f"listing {{len(files)}} files", file=sys.stderr)
made = {{
    "class": f"{{os.environ['COG_MODEL_PYTHON_MODULE']}}.{{os.environ['COG_MODEL_CLASS']}}",
    "files": {{str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}},
}}
target = Path(os.environ["COG_OUTPUT_DIR"], "{name}.json")
target.write_text(json.dumps(made, indent=2, sort_keys=True) + "\\n")
print(target)
"""

#: Language → (script's name, its text).
LANGUAGES = {"python": ("adapter.py", _PYTHON), "sh": ("adapter.sh", _SH)}


def new_adapter(name: str, directory: Path, language: str) -> list[Path]:
    """Write a working adapter into *directory* and return its files.

    Raises ``BadAdapterName`` and ``DirectoryTaken``.
    """
    if not is_adapter_name(name):
        raise BadAdapterName(name=name)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise DirectoryTaken(directory=directory, name=name)
    script, text = LANGUAGES[language]
    declaration = _DECLARATION.format(name=name, script=script, test=f"test.{script.rpartition('.')[2]}")
    with disk_errors(directory):
        make_place(directory, "`cogbuild adapters new NAME DIR`")
        (directory / ADAPTER_FILE).write_text(declaration)
        (directory / script).write_text(text.format(name=name))
        os.chmod(directory / script, 0o755)  # noqa: S103 - a script that others may run too
    return [directory / ADAPTER_FILE, directory / script]
