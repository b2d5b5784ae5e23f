"""What nothing on a host needs: found, and moved away or removed."""
