"""What the runs of a job printed."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
