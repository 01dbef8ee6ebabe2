"""One message, one SMTP transaction, one answer: the sendmail for machines without a mail server."""

__version__ = "0.1.0"
