"""What is found of runs while others begin and end?"""

from __future__ import annotations

import threading
from pathlib import Path

from cogbuild.engine.places import notes_in


def test_directories_that_go_while_one_looks_are_passed_over(tmp_path: Path) -> None:
    """Whoever looks for what the dead left meets the living, who remove their directories when they end."""
    stop = threading.Event()

    def runs() -> None:
        while not stop.is_set():
            for number in range(20):
                (tmp_path / str(number)).mkdir()
            for number in range(20):
                (tmp_path / str(number)).rmdir()

    thread = threading.Thread(target=runs)
    thread.start()
    try:
        for _ in range(300):
            assert list(notes_in(tmp_path)) == []
    finally:
        stop.set()
        thread.join()
    assert list(notes_in(tmp_path / "none")) == []
