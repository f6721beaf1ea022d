"""Whose pods they are: tenants, their users and plans, and the tokens that may ask."""
