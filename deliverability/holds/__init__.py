"""Holds: a tenant or a batch that must not send for now, and why."""
