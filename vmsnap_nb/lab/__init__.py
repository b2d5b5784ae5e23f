"""The teaching world: a libvirt of its own, base images, the starting states of the figures."""
