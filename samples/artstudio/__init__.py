"""Procedural drawing of the sample artworks: one module per group of families."""
