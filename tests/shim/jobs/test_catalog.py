"""The catalog: what it names is there."""

import inspect

import pytest

from shim.config import CHECKOUT
from shim.jobs.catalog import ACTIONS, LONG, ONE_PER_NODE, QUEUES, QUICK_QUEUES, Handler, types_of

FUNCTIONS = ("variables", "succeed", "fail", "settle", "again")
ONE = pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)


def test_the_queues_are_the_master_specs_and_the_designs():
    expected = {"create", "destroy", "backup", "health", "scale", "power", "snapshot", "restore", "drill", "adopt", "scan"}
    assert set(QUEUES) == {f"cloudpods:{verb}" for verb in (*expected, "reconcile", "sync", "blueprint")}


def test_the_types_are_the_master_specs_and_the_designs():
    expected = {"CREATE", "DESTROY", "BACKUP", "HEALTH_CHECK", "SCALE", "POWER", "SNAPSHOT", "HEALTH_SWEEP"}
    others = {"RESTORE", "RESTORE_DRILL", "ADOPT", "POD_SCAN", "RECONCILE", "NODE_SYNC", "BLUEPRINT"}
    assert set(ACTIONS) == {*expected, *others}


def test_only_the_two_health_checks_share_a_queue():
    assert len(QUEUES) == len(set(QUEUES)) == len(ACTIONS) - 1
    assert ACTIONS["HEALTH_CHECK"].queue == ACTIONS["HEALTH_SWEEP"].queue


@ONE
def test_an_action_stands_under_its_own_type(action):
    assert ACTIONS[action.type] is action


@ONE
@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_handler_offers_its_functions_with_their_parameters(action, function):
    offered = inspect.signature(getattr(action.handler, function))
    asked = inspect.signature(getattr(Handler, function))
    assert list(offered.parameters) == list(asked.parameters)[1:]


@ONE
def test_every_playbook_is_there(action):
    assert (CHECKOUT / "playbooks" / action.playbook).is_file()


@ONE
def test_limits_are_sane(action):
    assert action.tries >= 1
    assert action.timeout_s > 0


def test_only_what_looks_and_a_drill_leave_the_pod_alone():
    alone = [action.type for action in ACTIONS.values() if not action.changes_pod]
    looks = {"HEALTH_CHECK", "HEALTH_SWEEP", "POD_SCAN", "RECONCILE", "NODE_SYNC"}
    # Of a deployment's pods its own order sees to it that nothing is done to them meanwhile.
    assert set(alone) == {*looks, "RESTORE_DRILL", "BLUEPRINT"}


def test_a_node_makes_one_backup_or_drill_at_a_time():
    assert ONE_PER_NODE == ("BACKUP", "RESTORE_DRILL")


def test_backups_drills_restores_and_blueprints_are_long_and_a_quick_worker_takes_all_else():
    assert set(LONG) == {"BACKUP", "RESTORE_DRILL", "RESTORE", "BLUEPRINT"}
    assert set(types_of(QUICK_QUEUES)) == set(ACTIONS) - set(LONG)


def test_a_workers_queues_name_its_types():
    assert types_of(("cloudpods:create", "cloudpods:health")) == ["CREATE", "HEALTH_CHECK", "HEALTH_SWEEP"]
    assert types_of(QUEUES) == list(ACTIONS)
    assert types_of(()) == []


def test_those_that_make_a_pod_know_what_to_do_when_somebody_has_its_vmid():
    makers = {action.type: action.clashes for action in ACTIONS.values() if action.clashes}
    assert set(makers) == {"CREATE", "RESTORE"}
    for module in makers.values():
        assert list(inspect.signature(module.avoid).parameters) == ["job", "failure"]
