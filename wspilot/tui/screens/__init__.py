"""What comes up over the main screen."""
