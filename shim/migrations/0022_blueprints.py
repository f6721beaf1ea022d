"""Deployments of blueprints, and jobs that come after several others."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
