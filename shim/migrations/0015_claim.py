"""What keeps the choice of the next job cheap, whatever is queued."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
