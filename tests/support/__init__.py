"""What the tests stand on: a scripted SMTP server, the program run from outside, dialogues as text files."""
