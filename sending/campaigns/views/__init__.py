"""The pages of campaigns, by topic."""
