"""What is fuzzed: each target takes any bytes and fails where the parser breaks its promise.

The promise: bytes that others wrote are understood, or refused with an error of ours that can be printed on a terminal.
Nothing else is raised, nothing is left behind, and what was understood survives being kept.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from cogbuild.archive import extract
from cogbuild.errors import CogbuildError
from cogbuild.errors.uploads import ZipRefused
from cogbuild.fingerprint.trees import read_tree
from cogbuild.spec import AdapterSpec, ModelSpec, from_json, to_json
from cogbuild.spec.adapter import parse_adapter
from cogbuild.spec.model import parse_model

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 1 << 20  # bytes that a zip may unpack to here
_FILES = {"requirements.txt": b"onnx>=1.17\n# a comment\n--extra-index-url https://example.test/simple\n"}


def _told(error: CogbuildError) -> None:
    text = str(error)
    assert text.isprintable() or set(filter(lambda char: not char.isprintable(), text)) <= {"\n"}, text
    text.encode("utf-8")
    error.to_json()


def fuzz_zip(data: bytes) -> None:
    """Unpack: all of it below the directory and within the limit, or nothing."""
    top = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    into = top / "into"
    into.mkdir()
    try:
        try:
            extract(io.BytesIO(data), into, limit=LIMIT)
        except ZipRefused as refusal:
            _told(refusal)
            assert os.listdir(into) == []
        else:
            files = [path for path in into.rglob("*") if path.is_file() and not path.is_symlink()]
            assert sum(path.lstat().st_size for path in files) <= LIMIT
            assert all(os.path.realpath(path).startswith(str(into)) for path in into.rglob("*"))
            try:
                read_tree(into)
            except CogbuildError as error:  # such as a symlink that a model may not have
                _told(error)
        assert os.listdir(top) == ["into"]
    finally:
        shutil.rmtree(top)


def fuzz_model(data: bytes) -> None:
    """Parse a ``cog.yaml``."""
    try:
        spec = parse_model(data, Path("cog.yaml"), _FILES.get)
    except CogbuildError as error:
        _told(error)
    else:
        assert from_json(ModelSpec, to_json(spec)) == spec


def fuzz_adapter(data: bytes) -> None:
    """Parse a ``cog-adapter.yaml``."""
    try:
        spec = parse_adapter(data, Path("cog-adapter.yaml"))
    except CogbuildError as error:
        _told(error)
    else:
        assert from_json(AdapterSpec, to_json(spec)) == spec


TARGETS = {"zip": fuzz_zip, "model": fuzz_model, "adapter": fuzz_adapter}


def seeds(target: str) -> list[bytes]:
    """Return what fuzzing begins with: valid input of each kind."""
    if target == "zip":
        return [
            _zip(method, kind) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for kind in range(3)
        ]
    name, places = {
        "model": ("cog.yaml", ("examples",)),
        "adapter": ("cog-adapter.yaml", ("adapters",)),
    }[target]
    return [path.read_bytes() for place in places for path in sorted((ROOT / place).glob(f"*/{name}"))]


def _zip(method: int, kind: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("cog.yaml", "predict: predict.py:P\n")
        archive.writestr("weights/a.bin", bytes(100))
        if kind:
            link = zipfile.ZipInfo("weights/b")
            link.external_attr = 0o120777 << 16
            archive.writestr(link, "a.bin")
        if kind > 1:
            archive.writestr("empty/", "")
            archive.comment = b"a comment"
    return out.getvalue()
