"""The `muawrap` program beside `sendmail`: demo, check, version."""
