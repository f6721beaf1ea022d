"""Host keys of pods, the power state that was ordered, and what looks at whole nodes need."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
