"""Which process runs a job, so that whoever finds it lost can make sure that it is dead."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
