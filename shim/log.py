"""What the processes say: one line each, JSON for machines, readable on a terminal. The only place that shapes a line.

Every module, ours and the libraries', speaks through `logging`. A line has time, level, logger and event, what its caller gave
as `extra`, and what is bound for the length of a request (`request_id`) or of a job's run (`job_id`, `request_id`, `attempt`).
Bodies and headers are never given: they hold tokens.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TextIO

import structlog
from gunicorn.glogging import Logger
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.typing import Processor

from shim import config

Format = Literal["json", "console"]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

_SHAPE: tuple[Processor, ...] = (
    merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
)


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what stderr is by then."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Return where lines go."""
        return sys.stderr


def configure(format: Format | None = None, level: Level | None = None) -> None:
    """Send all loggers to stderr. By default readable and only what is wrong on a terminal, else JSON and all of note."""
    format = format or ("console" if sys.stderr.isatty() else "json")
    level = level or ("WARNING" if format == "console" else "INFO")
    handler = _Stderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHAPE,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(format)],
        )
    )
    root = logging.getLogger()
    root.setLevel(level)
    root.handlers[:] = [*(other for other in root.handlers if not isinstance(other, _Stderr)), handler]
    # RQ says each wake-up it takes; ours say more.
    logging.getLogger("rq.worker").setLevel(logging.WARNING)


def _rendering(format: Format) -> list[Processor]:
    if format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    return [structlog.dev.ConsoleRenderer(timestamp_key="time", colors=sys.stderr.isatty())]


@contextmanager
def bound(**values: Any) -> Iterator[None]:
    """Have every line of the block, in this thread and those given its context, say these too."""
    with bound_contextvars(**values):
        yield


class GunicornLogger(Logger):  # type: ignore[misc]
    """Makes gunicorn speak as everybody else does. Its own access log stays off: `web/access_log.py` knows more."""

    def setup(self, cfg: Any) -> None:
        """Hand its lines on, in the shape that the settings name."""
        super().setup(cfg)
        settings = config.load()
        configure(settings.log_format, settings.log_level)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(logging.getLogger().level)
