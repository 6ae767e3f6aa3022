"""The headnode daemon: it alone owns state and talks to the LRM."""
