"""Which jobs the house itself ordered."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
