"""The documented API: one module a group of endpoints."""
