"""The size that a pod had when a snapshot or an archive of it was made."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
