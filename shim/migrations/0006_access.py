"""Tokens of users, each bound to one tenant with a role; when a token was last used."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
