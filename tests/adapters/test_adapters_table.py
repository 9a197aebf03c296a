"""Does the table of adapters and example models say what the tests saw?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import adapters_table
import pytest
from adapters_table import (
    BEGIN,
    END,
    PAGE,
    differences,
    examples,
    keep_cell,
    kept,
    main,
    saved,
    shipped,
    table,
    written,
)

if TYPE_CHECKING:
    from pathlib import Path

NEAR = {"absolute": 1.23e-7, "relative": 4.0e-6, "runtime": "onnxruntime 1.2"}


def test_the_table_in_the_readme_is_what_a_run_saw() -> None:
    """It is made of cells.json, which a run wrote, and not by hand; every shipped adapter and example is in it."""
    page = PAGE.read_text()
    assert page == written(page, table(saved(), shipped(), examples()))


def test_no_cell_is_empty() -> None:
    """Each is proved, or has its reason."""
    cells = saved()
    assert [(name, model) for name in shipped() for model in examples() if (name, model) not in cells] == []


def test_each_cell_is_proved_or_has_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell shows the largest differences, a count of files, or the number of its reason; an absent one is marked."""
    monkeypatch.setenv("COGBUILD_CELLS", str(tmp_path / "cells"))
    keep_cell("onnx", "a", {"fidelity": [NEAR, NEAR | {"absolute": 3e-7}]})
    keep_cell("onnx", "b", {"fidelity": [NEAR | {"absolute": 0.0, "relative": 0.0}]})
    keep_cell("onnx", "c", {"not applicable": "no network"})
    keep_cell("tar", "a", {"same files": 5})
    keep_cell("tar", "c", {"not applicable": "no network"})
    assert table(kept(tmp_path / "cells"), ["onnx", "tar"], ["a", "b", "c"]) == (
        "| adapter | a | b | c |\n"
        "|---|---|---|---|\n"
        "| onnx | proved: 3e-07 / 4e-06 | proved: the same | n/a (1) |\n"
        "| tar | proved: 5 files | ? | n/a (1) |\n"
        "\n"
        "1. no network\n"
        "\n"
        "Run in: onnx: onnxruntime 1.2.\n"
    )


def test_the_table_goes_between_the_marks_of_a_page() -> None:
    """What stood between the marks is replaced, all else stays."""
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert written(page, "new\n") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    with pytest.raises(SystemExit):
        written("no marks", "new\n")


def test_a_run_is_compared_with_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A size of difference, a count or a reason that changed is named; rounding and versions are let."""
    before: dict[tuple[str, str], dict[str, Any]] = {
        ("onnx", "a"): {"fidelity": [NEAR]},
        ("onnx", "b"): {"not applicable": "OpenVINO 2026.1 has no conversion for x"},
        ("tar", "a"): {"same files": 5},
    }
    names = [*before, ("tar", "b")]
    again: dict[tuple[str, str], dict[str, Any]] = before | {
        ("onnx", "a"): {"fidelity": [NEAR | {"absolute": 4e-7}]},
        ("onnx", "b"): {"not applicable": "OpenVINO 2027.0.1 has no conversion for x"},
    }
    assert differences(before, again, names) == []
    again = {
        ("onnx", "a"): {"fidelity": [NEAR | {"absolute": 0.02}]},
        ("onnx", "b"): {"fidelity": [NEAR]},
        ("tar", "a"): {"same files": 6},
        ("tar", "b"): {"same files": 1},
    }
    assert differences(before, again, names) == [
        "onnx on a: proved, 1e-07 / 4e-06, now proved, 2e-02 / 4e-06",
        "onnx on b: OpenVINO N has no conversion for x, now proved, 1e-07 / 4e-06",
        "tar on a: 5, now 6",
        "tar on b: nothing, now 1",
    ]
    monkeypatch.setattr(adapters_table, "SAVED", tmp_path / "cells.json")
    monkeypatch.setattr(adapters_table, "PAGE", tmp_path / "README.md")
    (tmp_path / "README.md").write_text(f"{BEGIN}{END}")
    assert main([str(tmp_path)]) == 1
    assert "no test kept a cell for archive on digits-torch\n" in capsys.readouterr().err
    assert "| archive | ? |" in (tmp_path / "README.md").read_text()
    monkeypatch.setenv("COGBUILD_CELLS", str(tmp_path / "cells"))
    keep_cell("archive", "digits-torch", {"same files": 5})
    assert main(["--check", str(tmp_path / "cells")]) == 1
    assert "archive on digits-torch: nothing, now 5\n" in capsys.readouterr().err
