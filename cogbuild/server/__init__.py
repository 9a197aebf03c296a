"""HTTP: the Cog server's API of 2021, ``/v2``, and a page for people. Needs the extra ``cogbuild[server]``.

One process: uvicorn and FastAPI for requests, threads for jobs, the workers of each run for adapters. ``service`` is what
lives as long as the process, ``jobs`` what is queued and what was said meanwhile, ``pipeline`` what becomes of an upload;
the routers translate and decide nothing.
"""
