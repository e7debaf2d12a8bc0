"""TLS towards receivers: policies that they publish, demands of ours, and what came of it."""
