"""Every Cog model built for every target, once."""

__version__ = "0.1.0"
