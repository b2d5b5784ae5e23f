"""What is on a disk: the layers of a chain, each read from a source, and what a guest sees through them."""
