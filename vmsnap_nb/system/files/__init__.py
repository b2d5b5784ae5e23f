"""Files of this machine: atomic writes, copies, locks, and which may be opened."""
