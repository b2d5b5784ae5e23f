"""Repairs of damaged images, on a copy."""
