"""What clients ask and get of jobs' logs."""

from shim.web.paging import PageQuery
from shim.web.schema import Answer, Moment, whole

# PostgreSQL's bigint holds any number of so many digits.
HIGHEST = 10**18 - 1


class LogQuery(PageQuery):
    """Which pieces of a log. `after`: those behind this number (`seq`)."""

    after: whole(0, 0, HIGHEST) = 0  # type: ignore[valid-type]


class LogPieceAnswer(Answer):
    """A piece of what a job's runs printed; put together in the order of `seq` they are the whole of it."""

    seq: int
    attempt: int
    text: str
    created_at: Moment
