"""Reports of what each node was found to have and what the table says."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
