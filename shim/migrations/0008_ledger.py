"""The ledger of quotas, opened with what is there and what is under way."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
