"""Idempotency-Key: a POST that is sent again, by a client that does not know what became of the first one, is done once.

The whole request runs in one transaction with its key's row: a process that dies anywhere leaves both or nothing. A key is its
token's and its tenant's own.

| known of the key | answer |
|---|---|
| nothing | the resource's, kept with the key; of a refusal only the answer is kept, not what was written before it |
| an answer to the same request | that one, with `Idempotency-Replayed: true` |
| an answer to another request | 422 `idempotency_key_reused` |
| its first request is under way | 409 `idempotency_in_flight` |

Not kept, so that the same key may be tried again: faults of ours (5xx), 429, 401 and 403; 412 and 415, which headers beside the
key decide.
"""

import hashlib
import json
import re
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import falcon

from shim import caller
from shim.db import database
from shim.errors import Conflict, Invalid
from shim.web import body

HEADER, REPLAYED = "Idempotency-Key", "Idempotency-Replayed"

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_NOT_KEPT = (401, 403, 412, 415, 429)
_HEADERS = ("Content-Type", "Location", "ETag")


@dataclass(frozen=True)
class Answer:
    """What was answered. `text` None: it held a secret, which is shown once and kept nowhere."""

    status: int
    headers: dict[str, str]
    text: str | None


class Answers(Protocol):
    """Where answers are kept. Both run inside the request's transaction."""

    def begin(self, scope: str, request_hash: str) -> Answer | None:
        """Return the answer kept for this request, None when it is new: then its key is written.

        Raises Conflict while the key's first request is under way, Invalid when it was another request.
        """

    def keep(self, scope: str, answer: Answer) -> None:
        """Keep the answer with its key."""


class _Unkept(Exception):
    """Ends a request's transaction without a trace."""


@dataclass(frozen=True)
class _Held:
    """A request under way: its key's scope, its transaction, and what the resource does inside that."""

    scope: str
    transaction: ExitStack
    work: Any
    secret: bool


class Idempotency:
    """Wraps a POST that has a key into a transaction. Of resources with `answers_secret = True` no answer's text is kept."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def process_resource(self, request: falcon.Request, response: falcon.Response, resource: Any, params: Any) -> None:
        """Answer again, or begin the transaction in which the resource runs."""
        key = request.get_header(HEADER)
        if key is None or request.method != "POST" or getattr(resource, "public", False):
            return
        if not _KEY.fullmatch(key):
            raise Invalid.field(HEADER, "must be 1 to 255 visible ASCII characters")
        octets = body.octets(request, getattr(resource, "max_bytes", body.MAX_BYTES))
        document = _document(octets)
        scope = _scope(key, document)
        with ExitStack() as stack:
            stack.enter_context(database.atomic())
            found = self._answers.begin(scope, _request_hash(request, octets, document))
            if found is not None:
                _replay(response, found)
                return
            work = database.savepoint()
            work.__enter__()
            secret = getattr(resource, "answers_secret", False)
            request.context.idempotency = _Held(scope, stack.pop_all(), work, secret)

    def process_response(self, request: falcon.Request, response: falcon.Response, resource: Any, req_succeeded: bool) -> None:
        """Keep the answer and commit it with what the resource did; of a refusal the answer only, of a fault nothing."""
        held: _Held | None = getattr(request.context, "idempotency", None)
        if held is None:
            return
        request.context.idempotency = None
        with suppress(_Unkept), held.transaction:
            if response.status_code >= 500 or response.status_code in _NOT_KEPT:
                raise _Unkept
            if response.status_code >= 400:
                held.work.rollback(begin=False)
            else:
                held.work.commit(begin=False)
            self._answers.keep(held.scope, _answer(response, held.secret))


def _scope(key: str, document: Any) -> str:
    """Return what tells a key from the same one of others. A service asks for many tenants, which its requests name."""
    asking = caller.current()
    assert asking is not None, "Authentication comes before"
    whose = asking.tenant_id or (document.get("tenantId") if isinstance(document, dict) else None)
    holder = asking.token_id or [asking.name, asking.user_id]
    return _sha256(json.dumps([holder, whose, key]).encode())


def _request_hash(request: falcon.Request, octets: bytes, document: Any) -> str:
    # In another user's name it is another request. The order of an object's fields and blanks between them are no difference.
    asking = caller.current()
    canonical = octets if document is None else json.dumps(document, sort_keys=True).encode()
    return _sha256(json.dumps([request.method, request.relative_uri, asking.user_id if asking else None]).encode() + canonical)


def _document(octets: bytes) -> Any:
    """Return the body as JSON, None when it is none: to say so is the resource's."""
    try:
        return json.loads(octets.decode())
    except (ValueError, RecursionError):
        return None


def _sha256(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()


def _answer(response: falcon.Response, secret: bool) -> Answer:
    text = (response.render_body() or b"").decode()
    headers = {name: value for name in _HEADERS if (value := response.get_header(name)) is not None}
    # A refusal holds no secret.
    return Answer(response.status_code, headers, None if secret and response.status_code < 400 else text)


def _replay(response: falcon.Response, answer: Answer) -> None:
    if answer.text is None:
        raise Conflict(
            "this was done by an earlier request with this key, whose answer held a secret and was not kept;"
            " make another one, and revoke the one that was lost",
            code="idempotency_answer_not_kept",
        )
    response.status = answer.status
    response.set_headers({**answer.headers, REPLAYED: "true"})
    response.text = answer.text
    response.complete = True
