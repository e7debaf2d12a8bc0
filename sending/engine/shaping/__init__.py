"""What each mailbox provider takes, as data with a validator, and how a lane finds its own way."""
