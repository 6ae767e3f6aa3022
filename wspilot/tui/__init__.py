"""The Textual terminal interface, fed by the control socket alone."""
