"""Where the bytes of an image come from: a file, a block device, memory, a volume behind a libvirt connection."""
