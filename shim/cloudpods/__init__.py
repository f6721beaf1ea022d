"""Pods: the table, the requests about them, and for each action what it asks, what its result means, how it fails."""
