"""The other side of the server: packs a model, sends what is missing, follows jobs, asks for what commands show.

Knows no data directory: everything here works on a machine that has never seen a project. httpx is imported with the
first request, so that commands which talk to no server do not pay for it.
"""
