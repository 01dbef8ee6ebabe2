"""The formats in which messages are held, each a module: batch SMTP, mailstore, maildir."""
