"""What the processes say: one shape for all loggers, with the ids that lead through it, and no secret."""

import json
import logging
import subprocess
import sys

import pytest

from shim import log


@pytest.fixture
def lines(capsys):
    """Return a way to read what was said; the loggers are as they were afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    # Pytest's own handlers stay; ours goes to the stderr that it captures.
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def speaking(lines):
    log.configure("json", "INFO")
    return lines


@pytest.mark.parametrize("name", ["shim.worker.run", "rq.queue", "gunicorn.access", "anybody.else"])
def test_every_logger_has_one_shape(speaking, name):
    logging.getLogger(name).warning("job %s: %s", 7, "café")
    (line,) = speaking()
    assert line.pop("time").endswith("Z")
    # Pytest's own handler puts it into the record.
    line.pop("message", None)
    assert line == {"level": "warning", "logger": name, "event": "job 7: café"}


def test_what_is_bound_is_said_by_every_line_of_the_block(speaking):
    with log.bound(job_id="j", attempt=2):
        logging.getLogger("a").info("inside", extra={"more": 1})
    logging.getLogger("a").info("outside")
    inside, outside = speaking()
    assert inside.items() >= {"job_id": "j", "attempt": 2, "more": 1}.items()
    assert "job_id" not in outside


def test_a_trace_stays_in_its_line(speaking):
    try:
        raise ValueError("odd")
    except ValueError:
        logging.getLogger("a").exception("it failed")
    (line,) = speaking()
    assert (line["event"], line["level"]) == ("it failed", "error")
    assert "ValueError: odd" in line["exception"]


def test_a_request_has_one_line_with_its_route_and_id_and_nothing_secret(api, speaking, sql):
    headers = {"X-Request-Id": "asked-1"}
    assert api.simulate_get("/internal/cloudpods/9999", headers=headers).status_code == 404
    (line,) = speaking()
    expected = {"event": "request", "method": "GET", "route": "/internal/cloudpods/{reference}", "status": 404}
    assert line.items() >= {**expected, "request_id": "asked-1", "level": "info"}.items()
    assert line["duration_ms"] >= 0
    assert line["token_id"] == sql.value("SELECT id FROM api_tokens")
    assert api.token not in json.dumps(line)
    assert api.simulate_get("/internal/events", headers={"Authorization": "Bearer wrong-secret"}).status_code == 401
    (line,) = speaking()
    assert (line["status"], "wrong-secret" in json.dumps(line)) == (401, False)
    assert line["request_id"] != "asked-1"


def test_below_the_level_nothing_is_said(lines):
    log.configure("json", "WARNING")
    logging.getLogger("a").info("quiet")
    assert lines() == []


def test_gunicorn_speaks_as_the_settings_say(tmp_path):
    """It runs in processes of its own."""
    words = ["--logger-class=shim.log.GunicornLogger", "--no-control-socket", "--bind=127.0.0.1:0", "shim.nowhere:none()"]
    given = {
        "CLOUDPODS_DATABASE_URL": "postgresql://",
        "CLOUDPODS_REDIS_URL": "redis://",
        "CLOUDPODS_STATE_DIR": str(tmp_path),
        "CLOUDPODS_LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", "gunicorn", *words]
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)
    said = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert "gunicorn.error" in {line["logger"] for line in said}
    assert {"time", "level", "event"} <= set(said[0])
