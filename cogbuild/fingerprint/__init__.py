"""Trees and pairs to manifest rows to action key; and the stat memo that saves reading.

``trees`` turns a directory into a :class:`~cogbuild.fingerprint.trees.Tree`, ``manifest`` lists what counts for a pair.
Both read and hash; neither writes.
"""
