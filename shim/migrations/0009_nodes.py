"""What a node may take and where: its states, over-commit and storages, the regions' vmids, pools that do not overlap."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
