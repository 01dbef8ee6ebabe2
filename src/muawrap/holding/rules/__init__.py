"""Exim's retry rules: which one matches, and when it has a host tried."""
