"""Strict command lines and YAML files for recipes: dataclass default < YAML (--config) < command line.

Unknown keys, wrong types, bad choices and doubled keys are one line and exit code 2. Built on HfArgumentParser,
without its abbreviations and ``.args`` files.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import sys
import types
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import yaml
from transformers import HfArgumentParser, TrainingArguments

from factdata.errors import InputError, did_you_mean


class _LineFormatter(argparse.RawDescriptionHelpFormatter):
    """One line a setting: its name, without spellings and placeholders, and what it means."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=34, width=120)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        return action.option_strings[0]


class StrictParser(HfArgumentParser):
    """Parses into instances of ``dataclass_types``; ``resolved`` then holds what was decided, ready to be a config."""

    def __init__(self, dataclass_types: Sequence[type], description: str | None = None):
        super().__init__(
            list(dataclass_types),
            description=description,
            allow_abbrev=False,
            usage="%(prog)s [--config YAML] [--<setting> <value> ...]",
            epilog="and every other field of transformers.TrainingArguments",
            formatter_class=_LineFormatter,
        )
        # The Trainer's hundred settings would bury ours: they are accepted, but only those we redefine are listed.
        self._ours = ours = {name for dtype in dataclass_types for name in inspect.get_annotations(dtype)}
        for action in self._actions:
            if action.dest not in ours and action.dest != "help":
                action.help = argparse.SUPPRESS
            elif action.default not in (None, argparse.SUPPRESS) and action.help:
                action.help += f" [{_plain(action.default)}]"
        self.add_argument("--config", metavar="YAML", help="settings to start from; the command line overrides them")
        self._hints = {name: hint for dtype in dataclass_types for name, hint in get_type_hints(dtype).items()}
        self._fields = {f.name: f for dtype in dataclass_types for f in dataclasses.fields(dtype) if f.init}
        self.resolved: dict[str, Any] = {}

    def error(self, message: str) -> NoReturn:
        raise InputError(message)

    def parse(self, arguments: Sequence[str] | None = None, default_config: Path | None = None) -> tuple[Any, ...]:
        """Instances in the order of ``dataclass_types``; raises InputError. Without --config, ``default_config``."""
        arguments = list(sys.argv[1:] if arguments is None else arguments)
        config = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        config.add_argument("--config")
        config.error = self.error  # type: ignore[method-assign]
        path = config.parse_known_args(arguments)[0].config or default_config
        if path is not None:
            settings = self._read_config(Path(path))
            self.set_defaults(**settings)
            for action in self._actions:
                action.required = action.required and action.dest not in settings
        namespace, unknown = self.parse_known_args(arguments)
        if unknown:
            flag = unknown[0].split("=")[0]
            raise InputError(f"unknown argument {flag}{did_you_mean(flag, self._option_string_actions)}")
        values = {name: getattr(namespace, name) for name in self._fields}
        instances = tuple(self._build(dtype, values) for dtype in self.dataclass_types)
        for instance in instances:  # mappings given as JSON are written as mappings
            if not isinstance(instance, TrainingArguments):
                values |= {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}
        # Our settings always; the Trainer's hundred others where they differ from its own defaults.
        trainer_defaults = vars(HfArgumentParser(TrainingArguments).parse_args([]))
        self.resolved = {
            name: _plain(value)
            for name, value in values.items()
            if not name.endswith("_token")  # a secret: it is never written or printed
            and (name in self._ours or _plain(value) != _plain(trainer_defaults.get(name)))
        }
        return instances

    def _build(self, dtype: type, values: dict[str, Any]) -> Any:
        try:
            return dtype(**{f.name: values[f.name] for f in dataclasses.fields(dtype) if f.init})
        except ValueError as error:  # dataclasses check themselves when they are made
            raise InputError(" ".join(str(error).split())) from None

    def _read_config(self, path: Path) -> dict[str, Any]:
        try:
            content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
        except OSError as error:
            raise InputError(f"cannot read the config {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise InputError(f"the config {path} is not UTF-8 text") from None
        except yaml.YAMLError as error:
            raise InputError(f"{path}: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict):
            raise InputError(f"{path}: wanted lines such as 'seed: 0', found {type(content).__name__}")
        choices = {action.dest: action.choices for action in self._actions}
        settings = {}
        for key, value in content.items():
            if key not in self._fields:
                raise InputError(f"{path}: unknown key {key!r}{did_you_mean(str(key), self._fields)}")
            try:
                settings[key] = _checked(value, self._hints[key])
            except TypeError as wanted:
                raise InputError(f"{path}: {key}: wanted {wanted}, found {value!r}") from None
            if choices.get(key) is not None and value is not None and value not in choices[key]:
                listed = ", ".join(map(str, choices[key]))
                raise InputError(f"{path}: {key}: {value!r} is none of {listed}")
        return settings


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, where YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: the key {key!r} stands twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _checked(value: Any, hint: Any) -> Any:
    """The YAML value as its field wants it; raises TypeError that names what is wanted."""
    if get_origin(hint) in (Union, types.UnionType):
        for option in get_args(hint):
            try:
                return _checked(value, option)
            except TypeError:
                pass
        names = [_type_name(option) for option in get_args(hint) if option is not type(None)]
        raise TypeError(" or ".join(dict.fromkeys(names)))
    if hint is Any:
        return value
    kind = get_origin(hint) or hint
    if kind is Literal or (isinstance(kind, type) and issubclass(kind, Enum)):
        return value  # the parser's choices decide
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        try:
            return float(value)
        except ValueError:
            raise TypeError("float") from None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(_type_name(hint))
    if kind is list and get_args(hint):
        return [_checked(item, get_args(hint)[0]) for item in value]
    return value


def _type_name(hint: Any) -> str:
    return "nothing" if hint is type(None) else getattr(get_origin(hint) or hint, "__name__", str(hint))


def _plain(value: Any) -> Any:
    """Enum members as their text, as YAML writes them."""
    return value.value if isinstance(value, Enum) else value


def run(main: Callable[[], Any]) -> NoReturn:
    """Run a recipe's ``main`` as a program: bad input is one line on the first rank and exit code 2."""
    try:
        main()
    except InputError as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)
