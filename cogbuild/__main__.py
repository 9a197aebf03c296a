"""``python -m cogbuild``."""

from cogbuild.cli import main

main()
