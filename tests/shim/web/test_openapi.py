"""The OpenAPI document tells of every route what it takes and answers; the pages over it ask no other host."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import falcon.testing
import openapi_spec_validator
import pytest

from shim import app, cli
from shim.config import Settings
from shim.jobs.queue import Wakeups
from shim.web import openapi, operation

PAGES = ("/docs", "/redoc")


def _routes() -> dict[str, object]:
    settings = Settings(database_url="postgresql://", redis_url="redis://localhost", state_dir=Path("/nowhere"))
    return app.routes(settings, Wakeups(settings.redis_url))


ROUTES = _routes()
OPERATIONS = [
    (method, path)
    for path, resource in ROUTES.items()
    for method in openapi.METHODS
    if not path.startswith("/api/") and hasattr(resource, f"on_{method.lower()}")
]


@pytest.fixture
def anybody(tenants):
    """Return the API for a client without a token."""
    return falcon.testing.TestClient(app.create(tenants))


@pytest.fixture
def document(anybody):
    """Return the document as it is served."""
    return anybody.simulate_get("/openapi.json").json


def test_the_document_is_openapi_3_1_and_needs_no_token(document):
    openapi_spec_validator.validate(document)
    assert document["openapi"].startswith("3.1.")


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_a_route_says_what_it_takes_and_answers(method, path):
    declared = operation.of(ROUTES[path], method)
    assert declared.summary.endswith(".")
    assert declared.query is not None, "declare `query=`; `schema.Query` for a route that takes none"
    assert declared.answer is not None or declared.status == 204, "declare `answer=`"
    assert declared.body is not None or method in ("GET", "DELETE"), "declare `body=`; `schema.Nothing` for none"


def test_the_document_has_every_route_and_no_other(document):
    listed = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert listed == set(OPERATIONS)


def test_every_path_is_there_under_the_other_prefix_too():
    internal = {path.removeprefix("/internal"): resource for path, resource in ROUTES.items() if path.startswith("/internal/")}
    panel = {path.removeprefix("/api"): resource for path, resource in ROUTES.items() if path.startswith("/api/")}
    assert internal == panel


def test_every_operation_has_an_id_of_its_own(document):
    ids = [entry["operationId"] for methods in document["paths"].values() for entry in methods.values()]
    assert len(ids) == len(set(ids))


def test_every_answer_has_a_shape(document):
    for path, methods in document["paths"].items():
        for method, entry in methods.items():
            for status, answer in entry["responses"].items():
                assert answer.get("content") or status == "204", f"{method} {path} {status}"


def test_a_problem_of_every_status_is_described(document):
    entry = document["paths"]["/internal/cloudpods/{reference}/scale"]["post"]
    assert {"202", "401", "403", "404", "409", "413", "415", "422", "503"} <= set(entry["responses"])
    assert set(entry["responses"]["409"]["content"]) == {"application/problem+json"}


def test_a_route_whose_resource_is_generic_is_described_by_its_instance(document):
    def body(verb):
        entry = document["paths"][f"/internal/cloudpods/{{reference}}/{verb}"]["post"]
        return entry["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]

    assert [body(verb) for verb in ("destroy", "backup", "scale")] == ["DestroyPod", "BackupPod", "ScalePod"]


def test_only_what_is_public_needs_no_token(document):
    public = {path for path, methods in document["paths"].items() for entry in methods.values() if entry.get("security") == []}
    assert public == {path for path, resource in ROUTES.items() if getattr(resource, "public", False)}


def test_the_command_prints_the_document(document):
    from click.testing import CliRunner

    done = CliRunner().invoke(cli.main, ["openapi"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output) == document


class Links(HTMLParser):
    """Collects whatever a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("src", "href", "spec-url") and value]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_and_all_that_it_fetches_come_from_this_host(anybody, page):
    answer = anybody.simulate_get(page)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    links = Links()
    links.feed(answer.text)
    fetched = [link for link in links.found if not link.startswith("data:")]
    assert fetched
    for link in fetched:
        assert not re.match(r"[a-z]+:|//|/", link), f"leaves the host or its prefix: {link}"
        assert anybody.simulate_get(f"/{link}").status_code == 200, link


@pytest.mark.parametrize("page", PAGES)
def test_a_browser_is_told_to_ask_no_other_host(anybody, page):
    policy = anybody.simulate_get(page).headers["content-security-policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == "'self'"
    assert directives["connect-src"] == "'self'"
    assert not re.search(r"https?:|\*|unsafe-eval", policy)


def test_swagger_ui_does_not_ask_the_online_validator(anybody):
    assert 'validatorUrl: "none"' in anybody.simulate_get("/docs/assets/swagger.js").text


@pytest.mark.parametrize("path", ["/docs/assets/../openapi.py", "/docs/assets/%2e%2e/openapi.py", "/docs/assets/nothing.js"])
def test_nothing_but_the_pages_files_is_served(anybody, assert_problem, path):
    assert_problem(anybody.simulate_get(path), 404, "not_found")
