"""The only part that touches the machine: image headers, programs, libvirt, guests."""
