"""Users, tenants, plans, quotas, nodes, allocations, tokens, pods, jobs, events (the master spec's section 1 and seed 001)."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
