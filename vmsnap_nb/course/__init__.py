"""The questions of the course: predicted before a cell runs, and compared with what really happened."""
