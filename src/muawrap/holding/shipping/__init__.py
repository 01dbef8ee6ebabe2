"""What is held goes out: sent, put off, expired or bounced, and none of it lost."""
