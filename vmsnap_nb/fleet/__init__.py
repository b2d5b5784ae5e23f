"""Several hosts as one: read in parallel, with the storage that they share."""
