"""What a run must not say: the words are taken out of all that it gives."""

from hypothesis import given
from hypothesis import strategies as st

from shim.worker.hiding import without
from shim.worker.playbook import _Events

SECRET = "s3cretw0rd"
TEXTS = st.text(max_size=8).map(lambda text: f"{text}{SECRET}{text}")
SAID = st.recursive(TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=10)


@given(SAID)
def test_the_word_is_nowhere(said):
    assert SECRET not in repr(without((SECRET,), said))


def test_nothing_else_is_touched():
    said = {"msg": "it is well", "rc": 0, "list": [None, True, 1.5]}
    assert without((SECRET,), said) == said


def test_a_word_that_an_event_is_made_of_spoils_no_event():
    events = _Events(hidden=("event_data", "playbook_on_stats", "artifact_data"))
    events({"event": "playbook_on_stats", "event_data": {"artifact_data": {"result": {"steps": []}}}})
    assert events.artifact == {"result": {"steps": []}}


def test_events_lose_it_on_their_way():
    told, printed = [], []
    events = _Events(told.append, printed.append, (SECRET,))
    events({"event": "playbook_on_task_start", "event_data": {"task": f"Set {SECRET}"}})
    res = {"msg": f"no {SECRET}", "stderr": SECRET, "rc": 1}
    events({"event": "runner_on_failed", "event_data": {"host": "db", "res": res}, "stdout": f"failed: {SECRET}"})
    events({"event": "playbook_on_stats", "event_data": {"artifact_data": {"result": {"outputs": {"login": SECRET}}}}})
    assert told == ["Set ********"]
    assert printed == ["failed: ********\n"]
    assert SECRET not in repr((events.failure, events.output, events.artifact))
    assert events.artifact["result"]["outputs"] == {"login": "********"}
