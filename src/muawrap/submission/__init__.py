"""Handing the message over to a smart host."""
