"""What the roles of blueprints refuse before they do anything: values that would be other words in the files they write."""

from __future__ import annotations

import json
from collections.abc import Callable

LAST_LINE = "shop.example.com\n"
OWN_USERS = ["root", "mysql", "mariadb.sys", "debian-sys-maint", "postgres"]
OWN_DATABASES = ["mysql", "sys", "information_schema", "performance_schema", "postgres", "template0", "template1"]
PASSWORDS_OF_REDIS = ["it's", 'a"b', "a\\b", "a b", "a\tb", "a\n", "ä"]

REFUSED = {
    "configure_database": [
        *({"user": user} for user in (*OWN_USERS, "pg_monitor", "app\n", "App")),
        *({"name": name} for name in (*OWN_DATABASES, "app\n")),
        *({"address": address} for address in ("999.1.1.1", "10.1.10.5\n", "10.1.10", "10.1.10.05")),
        {"app_addresses": ["10.1.10.5", "999.1.1.1"]},
        {"app_addresses": ["10.1.10.5\n"]},
        {"password": "a\nb"},
        {"dump_at": "*-*-* 01:30:00\n"},
    ],
    "configure_cache": [
        *({"password": password} for password in PASSWORDS_OF_REDIS),
        *({"address": address} for address in ("999.1.1.1", "10.1.10.5\n")),
    ],
    "configure_wordpress": [
        {"domain": LAST_LINE},
        {"more_domains": [LAST_LINE]},
        {"user": "wordpress\n"},
        {"admin_user": "admin\n"},
        {"database_address": "999.1.1.1"},
        {"redis_address": "10.1.10.5\n"},
        {"archive_url": "https://example.com/a.tar", "archive_checksum": "sha256:" + "0" * 64 + "\n"},
        {"admin_password": "a\0b"},
        {"database_password": "a\nb"},
        {"redis_password": "a\rb"},
    ],
    "configure_static_site": [{"domain": LAST_LINE}, {"more_domains": [LAST_LINE]}, {"dir": "/var/www/site\n"}],
    "web_certificate": [{"domains": [LAST_LINE]}, {"domains": ["10.1.10.5\n"]}, {"domains": []}],
}
TAKEN = {
    "configure_database": [{"name": "shop", "user": "keeper", "app_addresses": ["10.1.10.5"], "password": "it's a #secret"}],
    "configure_cache": [{"address": "10.1.10.5", "password": "#!&()[]^~azAZ09"}],
    "configure_wordpress": [{"domain": "shop.example.com", "more_domains": ["10.1.10.5"], "database_password": "a #'"}],
    "configure_static_site": [{"domain": "shop.example.com"}],
    "web_certificate": [{"domains": ["shop.example.com", "10.1.10.5"]}],
}
# A site needs its database's password, whatever else is tried.
NEEDED = {"configure_wordpress": {"database_password": "secret"}}


def _try(role: str, values: dict, note: dict) -> dict:
    given = {f"{role}_{name}": value for name, value in {**NEEDED.get(role, {}), **values}.items()}
    checks = {"ansible.builtin.include_role": {"name": f"migra.cloudpods.{role}", "tasks_from": "preflight"}, "vars": given}
    why = "{{ refused | default([]) + [case | combine({'why': ansible_failed_result.msg})] }}"
    return {"block": [checks], "rescue": [{"ansible.builtin.set_fact": {"refused": why}}], "vars": {"case": note}}


def test_values_that_would_be_other_words_are_refused(playbook: Callable, tmp_path) -> None:
    cases = [(role, values, False) for role in REFUSED for values in REFUSED[role]]
    cases += [(role, values, True) for role in TAKEN for values in TAKEN[role]]
    tasks = [_try(role, values, {"number": number}) for number, (role, values, _) in enumerate(cases)]
    found = tmp_path / "found.json"
    tell = {"ansible.builtin.copy": {"content": "{{ refused | to_json }}", "dest": str(found), "mode": "0600"}}
    book = tmp_path / "preflights.yml"
    book.write_text(json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [*tasks, tell]}]))
    done = playbook(str(book))
    refused = {each["number"]: each["why"] for each in json.loads(found.read_text())}
    assert [cases[number] for number in refused if cases[number][2]] == []
    assert [case for number, case in enumerate(cases) if number not in refused and not case[2]] == []
    told = " ".join(refused.values())
    assert "is the server's own: choose another name" in told
    assert "the password of the Redis must be of ASCII letters, digits and signs, without quotes" in told
    assert not any(password in done.stdout for password in ("it's a #secret", "#!&()[]^~azAZ09"))
