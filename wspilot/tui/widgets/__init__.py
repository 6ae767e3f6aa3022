"""The widgets of the terminal interface; none reaches into another."""
