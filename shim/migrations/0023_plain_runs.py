"""How many runs could not be started warm, and why."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
