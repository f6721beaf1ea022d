"""The settings: read from the environment, from files, from what `up` remembered; refused with a hint when wrong."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from shim import config
from shim.errors import SettingsError

URLS = {"CLOUDPODS_DATABASE_URL": "postgresql://h/n", "CLOUDPODS_REDIS_URL": "redis://h:6379/0"}


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """Take every setting out of the environment, and give a state folder of our own."""
    import os

    for name in [name for name in os.environ if name.startswith(("CLOUDPODS_", "REDIS_", "PROXMOX_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CLOUDPODS_STATE_DIR", str(tmp_path))


@pytest.fixture
def load(monkeypatch):
    """Return a way to load the settings under an environment."""

    def read(environ=None, **overrides):
        for name, value in {**URLS, **(environ or {})}.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        return config.load(**overrides)

    return read


def refusal(load, environ, **overrides):
    with pytest.raises(SettingsError) as caught:
        load(environ, **overrides)
    return caught.value.message


def test_two_urls_are_enough(load):
    settings = load()
    assert (settings.database_url, settings.redis_url) == ("postgresql://h/n", "redis://h:6379/0")
    assert (settings.host, settings.region, settings.vmid_first) == ("127.0.0.1", "migra-us-east-1", 1000)


@pytest.mark.parametrize("name", sorted(config.Settings.model_fields))
def test_every_setting_says_what_it_is(name):
    assert config.Settings.model_fields[name].description


def test_a_name_server_is_set_whole_or_not_at_all(load):
    whole = {"ZONE": "example.com", "SERVER": "192.0.2.53", "KEY_NAME": "cloudpods", "KEY_SECRET": "c2VjcmV0"}
    assert load({f"CLOUDPODS_DNS_{name}": value for name, value in whole.items()}).dns_zone == "example.com"
    for name in whole:
        said = {f"CLOUDPODS_DNS_{other}": value for other, value in whole.items()} | {f"CLOUDPODS_DNS_{name}": None}
        assert f"belong together: DNS_{name} is not set" in refusal(load, said)


def test_settings_do_not_change(load):
    with pytest.raises(ValidationError):
        load().port = 1


@pytest.mark.parametrize("name", ["CLOUDPODS_REDIS", "CLOUDPODS_", "CLOUDPODS_DATABASE_URI", "CLOUDPODS_PORT_FILES"])
def test_a_setting_that_is_none_is_refused_by_name(load, name):
    assert refusal(load, {name: "x"}).startswith(f"{name} is no setting of CloudPods")


def test_an_unknown_setting_by_file_is_refused_too(load, tmp_path):
    (tmp_path / "x").write_text("1")
    assert "is no setting" in refusal(load, {"CLOUDPODS_COLOUR_FILE": str(tmp_path / "x")})


WRONG = [
    ("CLOUDPODS_PORT", "0", "greater than or equal to 1"),
    ("CLOUDPODS_PORT", "65536", "less than or equal to 65535"),
    ("CLOUDPODS_PORT", "http", "integer"),
    ("CLOUDPODS_PORT", "", "integer"),
    ("CLOUDPODS_API_PROCESSES", "0", "greater than or equal to 1"),
    ("CLOUDPODS_LEASE_S", "1", "greater than 1"),
    ("CLOUDPODS_LEASE_S", "nan", ""),
    ("CLOUDPODS_TICK_S", "-1", "greater than 0"),
    ("CLOUDPODS_VMID_FIRST", "99", "greater than or equal to 100"),
    ("CLOUDPODS_VMID_LAST", "900000000", "less than 900000000"),
]


@pytest.mark.parametrize(("name", "value", "rule"), WRONG)
def test_a_wrong_value_is_refused_by_name_and_rule(load, name, value, rule):
    message = refusal(load, {name: value})
    assert message.startswith(name)
    assert rule in message


@pytest.mark.parametrize("name", URLS)
def test_a_missing_setting_is_named_with_what_to_do(load, name):
    message = refusal(load, {name: None})
    assert message.startswith(f"{name} is not set (")
    assert "cloudpods up" in message


def test_every_fault_is_named_at_once(load):
    message = refusal(load, {"CLOUDPODS_DATABASE_URL": None, "CLOUDPODS_PORT": "0", "CLOUDPODS_COLOUR": "red"})
    assert all(name in message for name in ("CLOUDPODS_DATABASE_URL", "CLOUDPODS_PORT", "CLOUDPODS_COLOUR"))


def test_a_refusal_does_not_tell_the_databases_password(load):
    message = refusal(load, {"CLOUDPODS_DATABASE_URL": "postgresql://user:hunter2@h/n", "CLOUDPODS_PORT": "0"})
    assert "hunter2" not in message


@pytest.mark.parametrize("text", ["postgresql://file/n", "postgresql://file/n\n", "  postgresql://file/n \n"])
def test_a_setting_may_be_a_file(load, tmp_path, text):
    (tmp_path / "url").write_text(text)
    environ = {"CLOUDPODS_DATABASE_URL": None, "CLOUDPODS_DATABASE_URL_FILE": str(tmp_path / "url")}
    assert load(environ).database_url == "postgresql://file/n"


def test_a_file_that_cannot_be_read_is_named_with_what_to_do(load, tmp_path):
    environ = {"CLOUDPODS_DATABASE_URL": None, "CLOUDPODS_DATABASE_URL_FILE": str(tmp_path / "absent")}
    message = refusal(load, environ)
    assert message.startswith("CLOUDPODS_DATABASE_URL_FILE: cannot read")
    assert "No such file" in message


def test_a_file_that_is_no_text_is_refused(load, tmp_path):
    (tmp_path / "url").write_bytes(b"\xff\xfe")
    environ = {"CLOUDPODS_DATABASE_URL": None, "CLOUDPODS_DATABASE_URL_FILE": str(tmp_path / "url")}
    assert "CLOUDPODS_DATABASE_URL_FILE" in refusal(load, environ)


@pytest.mark.parametrize("order", [("", "_FILE"), ("_FILE", "")])
def test_a_setting_given_twice_is_refused(tmp_path, order):
    (tmp_path / "url").write_text("postgresql://file/n")
    values = {"": "postgresql://h/n", "_FILE": str(tmp_path / "url")}
    with pytest.raises(SettingsError, match="CLOUDPODS_DATABASE_URL is given both directly and as a file"):
        config.given({f"CLOUDPODS_DATABASE_URL{suffix}": values[suffix] for suffix in order})


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"REDIS_HOST": "r"}, "redis://r:6379/0"),
        ({"REDIS_HOST": "r", "REDIS_PORT": "6380"}, "redis://r:6380/0"),
        ({"REDIS_HOST": "r", "CLOUDPODS_REDIS_URL": "redis://ours:1/0"}, "redis://ours:1/0"),
    ],
)
def test_the_seeds_own_names_are_a_fallback(load, environ, url):
    assert load({"CLOUDPODS_REDIS_URL": None, **environ}).redis_url == url


def test_a_redis_port_alone_names_no_redis(load):
    assert "CLOUDPODS_REDIS_URL is not set" in refusal(load, {"CLOUDPODS_REDIS_URL": None, "REDIS_PORT": "6380"})


def test_what_up_remembered_is_used_and_the_environment_wins(load, tmp_path):
    (tmp_path / config.REMEMBERED).write_text(json.dumps({"database_url": "postgresql://kept/n", "port": 9999}))
    settings = load({"CLOUDPODS_DATABASE_URL": None, "CLOUDPODS_PORT": "8888"})
    assert (settings.database_url, settings.port) == ("postgresql://kept/n", 8888)


def test_settings_survive_being_remembered(load, tmp_path):
    settings = load({"CLOUDPODS_PORT": "8888"})
    (tmp_path / config.REMEMBERED).write_text(settings.model_dump_json())
    assert load(dict.fromkeys([*URLS, "CLOUDPODS_PORT"])) == settings


@pytest.mark.parametrize("text", ["", "{", "\x00", "[1]", "5", "null", '"text"'], ids=repr)
def test_a_remembered_file_that_is_spoilt_is_named(load, tmp_path, text):
    (tmp_path / config.REMEMBERED).write_text(text)
    assert config.REMEMBERED in refusal(load, {})


def test_a_word_on_the_command_line_wins_over_all(load, tmp_path):
    (tmp_path / config.REMEMBERED).write_text(json.dumps({"port": 9999}))
    assert load({"CLOUDPODS_PORT": "8888"}, port=7777).port == 7777


def test_the_labs_own_variable_is_not_ours(load):
    assert load({"CLOUDPODS_LAB_DIR": "/lab"})


def test_a_folder_of_state_is_a_path(load, tmp_path):
    assert load().state_dir == Path(tmp_path)


def test_a_setting_that_is_a_path_itself_is_not_read(load, tmp_path):
    key = tmp_path / "key"
    assert load({"CLOUDPODS_POD_KEY_FILE": str(key)}).pod_key_file == key
    key.write_text(f"{tmp_path}/other\n")
    assert load({"CLOUDPODS_POD_KEY_FILE": None, "CLOUDPODS_POD_KEY_FILE_FILE": str(key)}).pod_key_file == tmp_path / "other"
