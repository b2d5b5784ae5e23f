"""Reverting a guest to a snapshot."""
