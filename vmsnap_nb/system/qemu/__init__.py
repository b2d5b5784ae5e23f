"""QEMU's own programs: qemu-img and what is built on it."""
