"""Pages of the audience, by topic."""
