"""Arbitrary input for everything that reads: targets, their corpus, and the runner."""
