"""Promises under fire: hostile servers, files, callers and faults."""
