"""Jobs that are to be ended before they are done, and jobs that repeat another one."""

from shim.migrations import same_named_sql

up = same_named_sql(__file__)
