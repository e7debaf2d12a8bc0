"""Routes: the ways out of the house besides our own MX delivery."""
