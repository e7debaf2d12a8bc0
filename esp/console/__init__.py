"""The operator's view of tenants: it looks across all rooms, so it stands on top of them."""
