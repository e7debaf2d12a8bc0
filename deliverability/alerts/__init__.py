"""Alerts: what an operator must know now, opened and closed by code."""
