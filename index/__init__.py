"""The store and the search: which training images are near this one? Users import `detector` instead."""

__all__: list[str] = []

__distribution__ = "replication-detector"
"""Tells this package from a user's own `index` module; `detector` looks at it."""
