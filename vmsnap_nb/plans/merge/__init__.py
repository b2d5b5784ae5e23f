"""Merging layers of a chain: commit, pull, remove, shorten, cleanup, and finishing what was interrupted."""
