"""Pairs of models and adapters are tasks without a line here; tasks of your own may stand beside them."""
