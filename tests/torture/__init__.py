"""Every way to break a delivery at every place, counted."""
