"""Does the table of adapters and example models say what the tests saw?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from adapters_table import BEGIN, END, keep_cell, kept, main, table, written

if TYPE_CHECKING:
    from pathlib import Path


def test_each_cell_is_proved_or_has_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell shows the largest difference, a count of files, or the number of its reason; an absent one is marked."""
    monkeypatch.setenv("COGBUILD_CELLS", str(tmp_path / "cells"))
    near = {"absolute": 1.23e-7, "relative": 4.0e-6, "runtime": "onnxruntime 1.2"}
    keep_cell("onnx", "a", {"fidelity": [near, near | {"absolute": 3e-7}]})
    keep_cell("onnx", "b", {"fidelity": [near | {"absolute": 0.0, "relative": 0.0}]})
    keep_cell("onnx", "c", {"not applicable": "no network"})
    keep_cell("tar", "a", {"same files": 5})
    keep_cell("tar", "c", {"not applicable": "no network"})
    assert table(kept(tmp_path / "cells"), ["onnx", "tar"], ["a", "b", "c"]) == (
        "| model | onnx | tar |\n"
        "|---|---|---|\n"
        "| a | proved: 3e-07, 4e-06 relative | proved: 5 files, byte for byte |\n"
        "| b | proved: the same | ? |\n"
        "| c | n/a (1) | n/a (1) |\n"
        "\n"
        "1. no network\n"
        "\n"
        "Run in: onnx: onnxruntime 1.2.\n"
    )


def test_the_table_goes_between_the_marks_of_a_page() -> None:
    """What stood between the marks is replaced, all else stays."""
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert written(page, "new\n") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    with pytest.raises(SystemExit):
        written("no marks", "new\n")


def test_an_empty_cell_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The script names the pairs that no test kept a cell for, and fails."""
    assert main([str(tmp_path)]) == 1
    assert "archive on digits-torch" in capsys.readouterr().err
