"""Files that SageMaker unpacked beside the image, ``model_data``: they stand in for the model's own of the same path."""

from __future__ import annotations

import os
from pathlib import Path

#: Cog's own: the schema, by which inputs are judged, is the image's.
_KEPT = ".cog"


def take_over(source: Path, model: Path) -> int:
    """Link every file below *source* into the directory *model*, in place of one that is there; return how many."""
    count = 0
    for root, directories, files in os.walk(source):
        below = Path(root).relative_to(source)
        if below == Path():
            directories[:] = [name for name in directories if name != _KEPT]
        (model / below).mkdir(parents=True, exist_ok=True)
        for name in files:
            _link(Path(root, name), model / below / name)
            count += 1
    return count


def _link(file: Path, at: Path) -> None:
    if at.is_symlink() or at.is_file():  # a container that is started again finds its own links
        at.unlink()
    at.symlink_to(file)
