"""What is checked in every plan, whatever its verb."""
