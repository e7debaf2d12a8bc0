"""The project: settings, addresses, the embedded stack, the simulator, and shared shelves."""
