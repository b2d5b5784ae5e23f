"""Taking snapshots, and libvirt's records of them."""
