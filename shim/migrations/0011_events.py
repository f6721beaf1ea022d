"""Events are only ever appended, and numbered as they are committed."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
