"""Start of a worker: ``python -I -S <this file> <socket> <level>``."""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def _bare_package(name: str, directory: str) -> None:
    # The packages above hold what the main process needs; their own text is not run here, which halves the start.
    package = type(sys)(name)
    package.__path__ = [directory]
    sys.modules[name] = package


_bare_package("cogbuild", os.path.dirname(os.path.dirname(_HERE)))
_bare_package("cogbuild.process", os.path.dirname(_HERE))

from cogbuild.process.worker.serve import main  # noqa: E402  (the packages come first)

main(int(sys.argv[1]), sys.argv[2])
os._exit(0)  # nothing of the interpreter is worth taking apart
