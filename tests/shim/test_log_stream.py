"""A job's log followed as a stream over an API of real processes, while it is written."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time

import pytest

from shim import db
from shim.events.stream import Streams
from shim.jobs.log_models import CloudPodJobLog
from shim.jobs.log_stream import JobLog
from shim.jobs.log_writing import LogWriter
from tests.shim.test_event_stream import messages

WHOLE = "SELECT string_agg(text, '' ORDER BY seq) FROM cloud_pod_job_logs WHERE job_id = %s"


@pytest.fixture
def job(tenants, rows):
    with db.session():
        return rows.running(pod=rows.pod())


def write(job, *texts):
    with db.session():
        CloudPodJobLog.append(job, list(texts))


def over(sql, job, status="success"):
    sql("UPDATE cloud_pod_jobs SET status = %s, lease_until = NULL, finished_at = now() WHERE id = %s", status, job.id)


def path(job):
    return f"/internal/jobs/{job.id}/log"


def test_it_is_told_as_it_is_written_and_ends_with_the_job(served, job, sql):
    api = served()
    write(job, "before\n")
    stream = messages(api.stream(path(job)))
    assert next(stream) == (0, {"retry": "1000", "id": "0"})
    id, fields = next(stream)
    assert (id, fields["event"], json.loads(fields["data"])["text"]) == (1, "log", "before\n")
    write(job, "later: ü\n")
    id, fields = next(stream)
    assert json.loads(fields["data"]) == api.read(f"{path(job)}?after=1")[1]["items"][0]
    began = time.monotonic()
    over(sql, job, "failed")
    ((id, fields),) = stream
    assert (id, fields["event"], json.loads(fields["data"])) == (2, "end", {"status": "failed"})
    assert time.monotonic() - began < 10


def test_a_job_that_is_over_is_told_whole_and_again_only_from_where_one_was(served, job, sql):
    api = served()
    write(job, *(f"{number}\n" for number in range(130)))
    over(sql, job)
    told = list(messages(api.stream(path(job))))
    assert "".join(json.loads(fields["data"]).get("text", "") for _, fields in told[1:]) == sql.value(WHOLE, job.id)
    assert told[-1][1]["event"] == "end"
    again = list(messages(api.stream(path(job), last=129)))
    assert [fields["event"] for _, fields in again[1:]] == ["log", "end"]
    assert [fields["event"] for _, fields in list(messages(api.stream(f"{path(job)}?after=130")))[1:]] == ["end"]


def test_it_takes_its_place_among_the_streams_of_events(served, job, sql):
    api = served(api_processes=1, api_streams=1)
    held = api.stream("/internal/events")
    next(messages(held))
    write(job, "there\n")
    assert [fields.get("event") for _, fields in messages(api.stream(path(job)))] == [None, "log"]
    held.close()


def test_an_idle_stream_holds_no_connection(served, job, sql, eventually):
    api = served(api_processes=1)
    streams = [messages(api.stream(path(job))) for _ in range(10)]
    assert {next(stream)[0] for stream in streams} == {0}
    busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cloudpods' AND state <> 'idle'"
    seen = [sql.value(busy) for _ in range(20)]
    assert sorted(seen)[10] <= 1


def test_a_job_that_is_deleted_meanwhile_ends_its_stream(tenants, job, sql):
    sql("DELETE FROM cloud_pod_jobs WHERE id = %s", job.id)
    stream = Streams(4, last_s=30).follow(JobLog(job.id), 0, allowed=lambda: True, gone=lambda: False)
    assert b'event: end\ndata: {"status": null}' in b"".join(stream)


class Reader:
    """Takes a few messages of a job's log, breaks off, and comes again with the last id that it had, to the log's end."""

    def __init__(self, api, job):
        self._api, self._path = api, path(job)
        self.last, self.ended, self.seen, self.connections = None, False, [], 0

    def read(self):
        try:
            answer = self._api.stream(self._path, self.last)
            self.connections += 1
            for self.last, fields in itertools.islice(messages(answer), 25):
                self.ended = fields.get("event") == "end"
                if fields.get("event") == "log":
                    self.seen.append(json.loads(fields["data"])["text"])
            answer.close()
        except (OSError, http.client.HTTPException):
            # The API is away.
            time.sleep(0.02)


def test_a_reader_that_comes_again_over_a_restart_gets_every_piece_once(served, job, sql):
    api = served()

    def write_all():
        writer = LogWriter(job)
        for number in range(400):
            with db.session():
                writer.add(f"line {number}\n")
                writer.write()
            time.sleep(0.01)
        over(sql, job)

    threads = [threading.Thread(target=write_all), threading.Thread(target=lambda: (api.stop(), api.start()))]
    for thread in threads:
        thread.start()
    reader = Reader(api, job)
    deadline = time.monotonic() + 90
    while not reader.ended:
        assert time.monotonic() < deadline
        reader.read()
    for thread in threads:
        thread.join()
    assert reader.seen == [f"line {number}\n" for number in range(400)]
    assert reader.connections > 10
