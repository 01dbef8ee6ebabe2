"""Who gets the message, and by which way."""
