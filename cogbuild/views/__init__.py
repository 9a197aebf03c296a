"""What the views of the command line show, gathered as values; no text.

``models`` is (repo, model) with what was made of it, ``matrix`` a page of all pairs, ``pair`` one pair with its history,
``attempts`` what ran and what runs, ``machine`` what this machine gives.
"""
