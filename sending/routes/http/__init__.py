"""Providers' HTTP APIs as ways out, through anymail's backends."""
