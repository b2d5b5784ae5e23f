"""Deleting snapshots."""
