"""The audit: what happened to whom, append-only."""
