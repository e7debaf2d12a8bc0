"""One SMTP session: its connection, TLS and login, and the transactions on it."""
