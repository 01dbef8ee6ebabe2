"""The outbox: our own mail, kept until it can be sent."""
