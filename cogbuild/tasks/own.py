"""doit's state of a user's own tasks. doit imports every backend it finds, whatever is asked of it: this one costs nothing."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["LazyState"]


class LazyState:
    """doit's state file for a user's own tasks, opened when one of them asks: pairs leave no such file."""

    desc = "doit's own state (dbm), made only where tasks of your own need it"

    def __init__(self, name: str, codec: object, *, module_name: str | None = None) -> None:
        self.name = name
        self._codec = codec
        self._module = module_name
        self._opened: Any = None

    @property
    def _state(self) -> Any:
        if self._opened is None:
            from doit.dependency import DbmDB

            self._opened = DbmDB(self.name, self._codec, module_name=self._module)
        return self._opened

    def get(self, task_id: str, dependency: str) -> Any:
        """Return what is kept; as doit's own."""
        return self._state.get(task_id, dependency)

    def set(self, task_id: str, dependency: str, value: Any) -> None:
        """Keep a value; as doit's own."""
        self._state.set(task_id, dependency, value)

    def in_(self, task_id: str) -> bool:
        """Whether anything is kept of a task; as doit's own."""
        return bool(self._state.in_(task_id))

    def remove(self, task_id: str) -> None:
        """Forget a task; as doit's own."""
        self._state.remove(task_id)

    def remove_all(self) -> None:
        """Forget every task, where there is a state to forget."""
        if self._opened is not None or os.path.exists(self.name):
            self._state.remove_all()

    def dump(self) -> None:
        """Write the state where there is any."""
        if self._opened is not None:
            self._opened.dump()
