"""New overlays and guests on a base."""
