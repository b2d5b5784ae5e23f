"""What talks to a running guest: command port, agent, console."""
