"""The delivery engine: plain asyncio, one file per idea; see `ports` for what goes in and out."""
