"""Ansible, loaded once: what every run needs and no run changes.

What a run works out from unchanging text (the documents of Ansible's own plugins, its routing table) is kept by that very
text, pickled: each run unpickles a copy of its own. Packed modules are made here, from the collection's files, never taken
from a run.
"""

import base64
import dataclasses
import importlib
import importlib.util
import os
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from shim.warm import bytecode

# Loaded by every run from Ansible's own package, by the same names.
_PLUGINS = (
    "ansible.plugins.become.runas",
    "ansible.plugins.become.su",
    "ansible.plugins.become.sudo",
    "ansible.plugins.cache.jsonfile",
    "ansible.plugins.cache.memory",
    "ansible.plugins.callback.default",
    "ansible.plugins.callback.junit",
    "ansible.plugins.callback.minimal",
    "ansible.plugins.callback.oneline",
    "ansible.plugins.callback.tree",
    "ansible.plugins.connection._paramiko_ssh",
    "ansible.plugins.connection.local",
    "ansible.plugins.connection.paramiko_ssh",
    "ansible.plugins.connection.psrp",
    "ansible.plugins.connection.ssh",
    "ansible.plugins.connection.winrm",
    "ansible.plugins.doc_fragments.connection_pipelining",
    "ansible.plugins.doc_fragments.default_callback",
    "ansible.plugins.doc_fragments.result_format_callback",
    "ansible.plugins.doc_fragments.shell_common",
    "ansible.plugins.doc_fragments.shell_windows",
    "ansible.plugins.doc_fragments.vars_plugin_staging",
    "ansible.plugins.inventory.auto",
    "ansible.plugins.inventory.host_list",
    "ansible.plugins.inventory.ini",
    "ansible.plugins.inventory.script",
    "ansible.plugins.inventory.toml",
    "ansible.plugins.inventory.yaml",
    "ansible.plugins.lookup.env",
    "ansible.plugins.shell.cmd",
    "ansible.plugins.shell.powershell",
    "ansible.plugins.shell.sh",
    "ansible.plugins.strategy.linear",
    "ansible.plugins.vars.host_group_vars",
)
_ELSE = (
    "ansible.executor.process.worker",
    "ansible.executor.task_executor",
    "ansible.playbook.handler_task_include",
    "ansible.playbook.included_file",
    "ansible.playbook.role_include",
    "ansible.plugins.action.assert",
    "ansible.plugins.action.set_stats",
    "ansible.utils.hashing",
    "ansible.utils.shlex",
    "multiprocessing.popen_fork",
    "multiprocessing.shared_memory",
    "multiprocessing.synchronize",
    "pty",
    "tomllib",
    "xml.dom.minidom",
    "xml.etree.ElementTree",
)
# How Ansible names a packed module in its cache: ours and its own; those of roles and of playbooks' folders have other names.
PACKED = re.compile(
    r"(?:ansible\.modules\.(?P<own>\w+)|ansible_collections\.migra\.cloudpods\.plugins\.modules\.(?P<ours>\w+))-ZIP_DEFLATED-none"
)


class Unfit(Exception):
    """This ansible-core is not one that can be started warm; its text says what it lacks."""


class Loaded:
    """Ansible in this process: its modules, the names of the settings that it read when it was loaded."""

    def __init__(self, program: str) -> None:
        sys.argv = [program]
        sys.path[0] = str(Path(program).parent)
        self.cli = importlib.import_module("ansible.cli.playbook")
        self.constants = importlib.import_module("ansible.constants")
        self.plugins = {module.__name__: str(module.__file__) for module in _imported(_PLUGINS)}
        list(_imported(_ELSE))
        self.known = frozenset(_environment_names(self.constants.config))
        _remember_documents()
        _keep_overridden_plugins_apart(self.plugins)

    def watched(self) -> list[Path]:
        """Return the folders of which a change, whatever is in them, makes this process old."""
        ours = [Path(root) / "ansible_collections/migra/cloudpods/plugins" for root in self.constants.COLLECTIONS_PATHS]
        return [each for each in (*ours, *map(Path, self.constants.DEFAULT_MODULE_UTILS_PATH)) if each.is_dir()]


def read_when_loading() -> list[Path]:
    """Return what is read when Ansible is loaded: its configuration, wherever it is looked for, and its code.

    Of that, the files of its release and the folders into which it and its libraries are installed.
    """
    named = os.environ.get("ANSIBLE_CONFIG")
    given = [Path(os.path.expandvars(named)).expanduser().absolute()] if named else []
    configuration = [*given, *(each / "ansible.cfg" for each in given), Path("ansible.cfg").absolute()]
    configuration += [Path("~/.ansible.cfg").expanduser(), Path("/etc/ansible/ansible.cfg")]
    packages = [_package(name) for name in ("ansible", "jinja2", "yaml")]
    installed = dict.fromkeys(package.parent for package in packages)
    return [*configuration, packages[0], packages[0] / "release.py", packages[0] / "cli/playbook.py", *installed]


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise Unfit(f"there is no {name}")
    return Path(found.origin).parent


def _imported(names: tuple[str, ...]) -> Iterator[ModuleType]:
    for name in names:
        try:
            yield importlib.import_module(name)
        except ModuleNotFoundError:
            # Another release of Ansible may be without it: then no run loads it either.
            continue


def _environment_names(config: Any) -> Iterator[str]:
    for definition in config.get_configuration_definitions().values():
        for entry in definition.get("env", ()):
            yield entry["name"]


def _remember_documents() -> None:
    """Have texts of plugins and routing tables parsed once, each by whoever needs it first; Ansible's own right away."""
    try:
        finder: Any = importlib.import_module("ansible.utils.collection_loader._collection_finder")
        loader: Any = importlib.import_module("ansible.plugins.loader")
        documents: Any = importlib.import_module("ansible.utils.plugin_docs")
        tags = importlib.import_module("ansible._internal._datatag._tags")
        routing = finder._meta_yml_to_dict
    except (ImportError, AttributeError) as error:
        raise Unfit(str(error)) from error
    finder._meta_yml_to_dict = _remembered(routing, lambda text, name: (bytes(text), name))
    yaml = _Yaml(loader.yaml, tags)
    loader.yaml = documents.yaml = yaml
    package = Path(importlib.import_module("ansible").__file__ or "").parent
    finder._meta_yml_to_dict((package / "config/ansible_builtin_runtime.yml").read_bytes(), ("ansible.builtin", "runtime.yml"))
    for name in _PLUGINS:
        module = sys.modules.get(name)
        if module and getattr(module, "DOCUMENTATION", None):
            origin = tags.Origin(path=str(module.__file__))
            document = yaml.load(origin.tag(tags.TrustedAsTemplate().tag(module.DOCUMENTATION)), Loader=loader.AnsibleLoader)
            for text in _extended(document):
                yaml.load(origin.tag(tags.TrustedAsTemplate().tag(text)), Loader=loader.AnsibleLoader)


def _extended(document: dict[str, Any]) -> Iterator[str]:
    """Give the documents that a plugin's own extends, as far as they are loaded."""
    names = document.get("extends_documentation_fragment", [])
    for name in [names] if isinstance(names, str) else names:
        fragment = sys.modules.get(f"ansible.plugins.doc_fragments.{name}")
        if fragment is not None:
            yield fragment.ModuleDocFragment.DOCUMENTATION


def _remembered(function: Callable[..., Any], key: Callable[..., Any]) -> Callable[..., Any]:
    kept: dict[Any, bytes] = {}

    def answer(*args: Any) -> Any:
        asked = key(*args)
        if asked not in kept:
            kept[asked] = pickle.dumps(function(*args))
        return pickle.loads(kept[asked])  # noqa: S301 - this process's own

    return answer


class _Yaml:
    """PyYAML as two of Ansible's modules see it: `load` of a plugin's document is remembered by text and origin."""

    def __init__(self, yaml: ModuleType, tags: ModuleType) -> None:
        self._yaml = yaml
        self._tags = tags
        self._of_document = _remembered(self._parse, self._key)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._yaml, name)

    def load(self, stream: Any, Loader: Any) -> Any:  # noqa: N803 - as PyYAML names it
        return self._of_document(stream, Loader) if isinstance(stream, str) else self._parse(stream, Loader)

    def _parse(self, stream: Any, loader: Any) -> Any:
        return self._yaml.load(stream, Loader=loader)

    def _key(self, stream: Any, loader: Any) -> Any:
        return str(stream), repr(self._tags.Origin.get_tag(stream)), self._tags.TrustedAsTemplate.is_tagged_on(stream), loader


def _keep_overridden_plugins_apart(plugins: dict[str, str]) -> None:
    """Have a plugin loaded that stands beside a playbook and has the name of one of Ansible's own, which is loaded."""
    loader = importlib.import_module("ansible.plugins.loader")
    load = loader.PluginLoader._load_module_source

    def load_from(self: Any, *, python_module_name: str, path: str) -> ModuleType:
        if plugins.get(python_module_name, path) != path:
            del plugins[python_module_name]
            sys.modules.pop(python_module_name, None)
        module: ModuleType = load(self, python_module_name=python_module_name, path=path)
        return module

    loader.PluginLoader._load_module_source = load_from


def try_plugins() -> None:
    """Load a plugin as runs do, through what is changed here of Ansible's loaders. Raises whatever this Ansible lacks."""
    loader = importlib.import_module("ansible.plugins.loader")
    loader.init_plugin_loader()
    if loader.lookup_loader.get("env") is None:
        raise Unfit("it does not find its plugins")


def pack(loaded: Loaded, name: str, target: Path) -> None:
    """Pack the module of that name in Ansible's cache and put it into `target`. Call it in a fork: it changes the process."""
    found = PACKED.fullmatch(name)
    if found is None:
        return
    asked = f"ansible.builtin.{found['own']}" if found["own"] else f"migra.cloudpods.{found['ours']}"
    constants = loaded.constants
    own_local_tmp(constants)
    loader = importlib.import_module("ansible.plugins.loader")
    templating = importlib.import_module("ansible.template")
    common = importlib.import_module("ansible.executor.module_common")
    loader.init_plugin_loader()
    path = loader.module_loader.find_plugin_with_context(asked, mod_type=".py").plugin_resolved_path
    common.modify_module(
        module_name=asked,
        module_path=path,
        module_args={},
        templar=templating.Templar(),
        # Which interpreter it is for is no part of what is packed.
        task_vars={"ansible_python_interpreter": "/usr/bin/python3"},
        module_compression="ZIP_DEFLATED",
    )
    made = Path(constants.DEFAULT_LOCAL_TMP) / "ansiballz_cache" / name
    try:
        if found["ours"]:
            # Ansible's own say by their files' paths whose a deprecated feature is.
            _add_bytecode(common._CachedModule, made, found["ours"])
    finally:
        # Without bytecode where that cannot be made.
        part = target / f".{name}"
        part.write_bytes(made.read_bytes())
        part.rename(target / name)


def _add_bytecode(kept: Any, made: Path, module: str) -> None:
    cached = kept.load(str(made))
    # Whoever prints a traceback there looks for the file: at a place where nobody can put another.
    shown_as = f"/dev/null/ansible_migra.cloudpods.{module}_payload.zip"
    both = bytecode.beside_sources(base64.b64decode(cached.zip_data), shown_as, made.parent)
    dataclasses.replace(cached, zip_data=base64.b64encode(both)).dump(str(made))


def own_local_tmp(constants: Any) -> None:
    """Give this fork a folder of its own for what Ansible makes on the way, which is removed when it ends."""
    import atexit  # noqa: PLC0415

    paths = importlib.import_module("ansible.utils.path")
    # The folder of the process it was forked from is that one's to remove.
    atexit.unregister(paths.cleanup_tmp_file)
    renew(constants, "DEFAULT_LOCAL_TMP")


def renew(constants: Any, name: str) -> None:
    """Read a setting again, as it is read when Ansible is loaded: it may be a template over the others."""
    setattr(constants, name, constants.config.get_config_value(name, variables=vars(constants)))
