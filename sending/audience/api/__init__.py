"""The REST API of contacts, lists and suppressions."""
