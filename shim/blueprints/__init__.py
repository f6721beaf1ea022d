"""Blueprints: stacks of several pods, and their deployments."""
