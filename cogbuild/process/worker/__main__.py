"""Start of a worker: ``python -I -S <this file> <socket> <level>``.

Most of a start used to be the import of what the standard library keeps for others: enumerations of signals and
sockets, everything to do with types. In this process the names below stand for what workers use of it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the signals by number, without their names
import _socket
import os
import sys
from _operator import itemgetter

_HERE = os.path.dirname(os.path.abspath(__file__))


class _Suppress:
    """`contextlib.suppress`."""

    def __init__(self, *kinds: type[BaseException]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> bool:
        return kind is not None and issubclass(kind, self._kinds)


class _NamedTuple(tuple[object, ...]):
    """`typing.NamedTuple`, by position alone."""

    __slots__ = ()

    def __new__(cls, *fields: object) -> _NamedTuple:  # noqa: PYI034  (Self is in typing)
        return super().__new__(cls, fields)

    def __init_subclass__(cls) -> None:
        for at, name in enumerate(cls.__annotations__):
            setattr(cls, name, property(itemgetter(at)))


def _module(name: str, **names: object) -> None:
    module = type(sys)(name)
    module.__dict__.update(names)
    sys.modules[name] = module


sys.modules |= {"signal": _signal, "socket": _socket}
_module("contextlib", suppress=_Suppress)
_module("typing", TYPE_CHECKING=False, Any=object, NamedTuple=_NamedTuple)
# The packages above hold what the main process needs; their own text is not run here.
_module("cogbuild", __path__=[os.path.dirname(os.path.dirname(_HERE))])
_module("cogbuild.process", __path__=[os.path.dirname(_HERE)])

from cogbuild.process.worker.serve import main  # noqa: E402  (the modules come first)

main(int(sys.argv[1]), sys.argv[2])
os._exit(0)  # nothing of the interpreter is worth taking apart
