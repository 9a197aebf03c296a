"""The program that holds commands together: one process a slot of the pool, started by ``python -I -S``."""
