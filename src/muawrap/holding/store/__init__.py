"""The folder of a host: messages, records and journals, on disk when it says so."""
