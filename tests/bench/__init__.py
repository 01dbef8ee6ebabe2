"""A benchmark that anyone can run: muawrap beside its peers, as targets, tables and charts."""
