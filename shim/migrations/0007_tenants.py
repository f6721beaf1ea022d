"""Tenants that can be deleted, plans that can change, limits of a tenant's own, and the indexes of their lists."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
