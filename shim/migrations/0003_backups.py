"""Archives of pods, each a row keyed by its pod."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
