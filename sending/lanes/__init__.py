"""Lanes: what may flow between a source IP and a mailbox provider, and what stopped it."""
