"""Requests that save the memory of a guest alone, and restore it: their plans and checks."""
