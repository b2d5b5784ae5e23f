"""Faults in the middle of every verb: `make faults` injects many and counts what was lost; tests inject a sample."""
