"""Who asked for what happened, with which token, from where, in which request."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
