"""What a look leaves to be mended by orders, after its own end."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
