"""What the caller gave us: the command line and the message."""
