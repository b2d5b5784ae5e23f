"""Decided changes that have not happened yet: pure functions from a forest to a Plan."""
