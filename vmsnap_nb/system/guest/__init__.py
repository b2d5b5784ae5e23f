"""Communication with a running guest: command port, agent, console."""
