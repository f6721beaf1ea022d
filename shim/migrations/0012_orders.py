"""Orders: keys that make a POST repeatable, batches, dry runs, jobs that wait for another one, protected pods."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
