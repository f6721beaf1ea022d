"""What real runs print, as a job's log has it: readable, whole, and without what nobody is to read."""

import json
import os
import re
import subprocess
import sys
import textwrap

import pytest

from shim.jobs.log_text import shown

RUNS = """
    import json, pathlib, sys
    from shim.process import become_subreaper
    from shim.worker import playbook
    become_subreaper()
    playbook.forget_own_settings()
    here = pathlib.Path(sys.argv[1])
    run = playbook.Run(playbook="one.yml", inventory=here / "hosts", limit="lab1",
                       variables={"password": "hunter2-of-a-client"}, timeout_s=100.0,
                       directory=here / "run", project_dir=here, control_dir=here / "cp")
    printed = []

    def take(text):
        printed.append(text)

    playbook.execute(run, on_task=lambda _: None, should_stop=lambda: None, on_output=take)
    left = len(list(here.glob("run/artifacts/*/job_events/*")))
    print(json.dumps({"printed": "".join(printed), "events_left": left}))
"""
SECRETS = ("hunter2-of-a-client", "secret-of-the-database", "secret-of-the-token")


@pytest.fixture
def run(tmp_path):
    """Return a way to run a playbook of these tasks; it gives what was printed and how many files of events were there."""

    def execute(tasks):
        (tmp_path / "playbooks").mkdir()
        (tmp_path / "run").mkdir()
        (tmp_path / "hosts").write_text(f"lab1 ansible_connection=local ansible_python_interpreter={sys.executable}\n")
        (tmp_path / "ansible.cfg").write_text("[defaults]\ncallback_result_format = yaml\n")
        (tmp_path / "playbooks/one.yml").write_text(
            "- hosts: all\n  gather_facts: false\n  tasks:\n" + textwrap.indent(tasks, "    ")
        )
        environment = {
            "PATH": f"{sys.executable.rsplit('/', 1)[0]}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "LC_ALL": "C.UTF-8",
            "TERM": "xterm-256color",
            "CLOUDPODS_DATABASE_URL": "postgresql://shim:secret-of-the-database@localhost/cloudpods",
            "CLOUDPODS_METRICS_TOKEN": "secret-of-the-token",
        }
        command = [sys.executable, "-c", textwrap.dedent(RUNS), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=True, env=environment)
        return json.loads(done.stdout.splitlines()[-1])

    return execute


PLAIN = """
- name: Say a word
  ansible.builtin.debug: {msg: "hello"}
- name: Warn
  ansible.builtin.command: printf 'a\\\\033[31mred'
  changed_when: true
"""


def test_it_reads_as_ansible_playbook_prints_it_without_colours(run, tmp_path):
    printed = shown(run(PLAIN)["printed"])
    environment = {**os.environ, "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "COLUMNS": "80"}
    program = f"{sys.executable.rsplit('/', 1)[0]}/ansible-playbook"
    by_hand = subprocess.run(
        [program, "-i", "hosts", "playbooks/one.yml"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    ).stdout
    # The length of a banner follows the terminal's width.
    assert _without_stars(printed) == _without_stars(by_hand)
    assert "\nTASK [Say a word] ***" in printed


def _without_stars(text):
    return re.sub(r" \*+\n", "\n", text)


HIDES = """
- name: Use the password
  ansible.builtin.command: echo {{ password }}
  no_log: true
  changed_when: false
- name: Fail with it
  ansible.builtin.command: sh -c 'echo {{ password }}; exit 3'
  no_log: true
  ignore_errors: true
- name: Print the settings
  ansible.builtin.command: env
  register: said
- ansible.builtin.debug: {var: said.stdout_lines}
"""


def test_nothing_hidden_is_printed_nor_any_setting_of_ours(run):
    printed = run(HIDES)["printed"]
    assert "the output has been hidden" in printed
    assert "said.stdout_lines" in printed
    assert [secret for secret in SECRETS if secret in printed] == []


UNREADABLE = """
- name: Say what is no UTF-8
  ansible.builtin.shell: printf 'caf\\351 \\000 \\377\\376'; exit 1
"""


def test_what_is_no_text_is_shown_as_far_as_it_is_and_can_be_stored(run):
    printed = shown(run(UNREADABLE)["printed"])
    # ansible-core takes no such answer from a module, and says why.
    assert "UTF8" in printed
    assert "fatal: [lab1]: FAILED!" in printed
    assert "PLAY RECAP" in printed
    assert not re.search("[\x00-\x08\x0b-\x1f]", printed)
    printed.encode()


MUCH = """
- name: Say much
  ansible.builtin.debug: {msg: "{{ 'x' * 5000000 }}"}
- name: Say more
  ansible.builtin.debug: {msg: "{{ item }}"}
  loop: "{{ range(40) | list }}"
"""


def test_much_output_comes_whole_and_leaves_no_heap_of_files(run):
    done = run(MUCH)
    assert "x" * 5000000 in done["printed"]
    assert done["printed"].count("ok: [lab1] =>") >= 41
    assert done["events_left"] < 10
