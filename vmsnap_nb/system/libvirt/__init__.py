"""libvirt: connections, domains, block jobs, snapshots, storage, errors."""
