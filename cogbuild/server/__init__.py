"""The Cog server: the API of 2021, ``/v2``, and a page for people. Needs the extra ``cogbuild[server]``."""
