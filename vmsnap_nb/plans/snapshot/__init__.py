"""Taking snapshots, saved memory, and libvirt's records of them."""
