"""Tenants in turn: the place of each job in its node's queue, and what keeps the choice of the next one cheap."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
