"""The files on a disk: volumes and file systems are read in a child process, which can neither write nor connect."""
