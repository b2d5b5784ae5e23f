"""What a user holds: folders of images, hosts, guests, and plans that can be run."""
