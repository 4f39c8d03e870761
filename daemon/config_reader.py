"""Fills typed structs from a plain tree of keys and values, and words what is wrong with it.

A field's annotation says what its value must be: a struct is a section, `tuple[X, ...]` a list, `dict[Name, X]` a map
with names of the operator's choosing, everything else a leaf. A struct checks what concerns several of its fields in
`__post_init__`, by raising ValueError.
"""

import difflib
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from daemon import addresses
from daemon.errors import ConfigError
from swarm import units

PREFIX = "STARLING__"


class Variable(str):
    """A value that came from the environment, and the variable it came from."""

    __slots__ = ("name",)
    name: str

    def __new__(cls, name: str, value: str) -> "Variable":
        variable = super().__new__(cls, value)
        variable.name = name
        return variable

    @property
    def key(self) -> str:
        return ".".join(self.steps)

    @property
    def steps(self) -> list[str]:
        return self.name.removeprefix(PREFIX).lower().split("__")


def overlay(tree: dict[object, object], variable: Variable) -> None:
    """Puts the variable in its place in the tree, making sections as needed."""
    *sections, last = variable.steps
    for section in sections:
        inner = tree.get(section)
        # A copy: YAML anchors may have one section stand in two places.
        copied: dict[object, object] = dict(inner) if isinstance(inner, Mapping) else {}
        tree[section] = copied
        tree = copied
    tree[last] = variable


def _path(value: object) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("expected a path")
    return Path(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text")
    return value


def _count(value: object) -> int:
    if type(value) is int and value > 0:
        return value
    if isinstance(value, str) and value.isascii() and value.isdecimal() and int(value[:12]) > 0:
        return int(value[:12])
    raise ValueError("expected a number above 0")


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ValueError("expected true or false")


_LEAVES: dict[object, tuple[Callable[[object], object], str]] = {
    units.Bytes: (units.parse_bytes, units.SIZE_EXPECTED),
    units.BitsPerSecond: (units.parse_rate, units.RATE_EXPECTED),
    units.Seconds: (units.parse_seconds, units.DURATION_EXPECTED),
    units.Share: (units.parse_share, units.SHARE_EXPECTED),
    addresses.Address: (addresses.parse_address, addresses.ADDRESS_EXPECTED),
    addresses.Url: (addresses.parse_url, addresses.URL_EXPECTED),
    addresses.NodeName: (addresses.parse_node_name, addresses.NAME_EXPECTED),
    addresses.HostName: (addresses.parse_host_name, addresses.HOST_EXPECTED),
    addresses.Network: (addresses.parse_network, addresses.NETWORK_EXPECTED),
    Path: (_path, "a path"),
    int: (_count, "a number above 0"),
    str: (_text, "text (put it in quotes)"),
    bool: (_flag, "true or false"),
}


@dataclass(frozen=True, slots=True)
class Reader:
    """Fills structs from the tree; keeps the words for its errors."""

    source: str
    known: tuple[str, ...]  # every key path of the configuration, see `known_keys`

    def read_struct(self, tree: Mapping[object, object], type_: type[msgspec.Struct], key: str) -> msgspec.Struct:
        fields = {field.name: field for field in msgspec.structs.fields(type_)}
        for name, value in tree.items():
            if name not in fields:
                raise self._unknown(key, str(name), value, list(fields))
        for name, field in fields.items():
            if field.required and name not in tree:
                missing = _join(key, name)
                # Below a host name no variable is offered: its dots would be taken for levels.
                hint = f" ({_variable_name(missing)})" if missing in self.known else ""
                raise ConfigError(f"{self.source}: {missing} is required{hint}")
        values = {
            str(name): self.read(value, fields[str(name)].type, _join(key, str(name))) for name, value in tree.items()
        }
        try:
            return type_(**values)
        except ValueError as error:  # the struct's own cross checks
            raise ConfigError(f"{self.source}: {key + ': ' if key else ''}{error}") from error

    def read(self, value: object, type_: Any, key: str) -> object:
        """One value as its annotation wants it: a section, a map, a list, or a leaf."""
        options = _options(type_)
        sections = [option for option in options if _is_section(option)]
        maps = [option for option in options if get_origin(option) is dict]
        if value is None or (isinstance(value, Variable) and value == "null"):
            if types.NoneType in options:
                return None
            if sections:  # `viewer:` with every key below it commented out
                return self.read_struct({}, sections[0], key)
            if maps:
                return {}
        if isinstance(value, Mapping):
            if sections:
                return self.read_struct(value, sections[0], key)
            if maps:
                return self._read_map(value, maps[0], key)
            if (variable := _first_variable(value)) is not None:  # a key below one that has none
                raise self._unknown(key, variable.steps[-1], variable, [])
        leaves = [option for option in options if option not in (*sections, *maps, types.NoneType)]
        if not leaves:
            raise self._wrong(key, value, "keys and values (a section)")
        if get_origin(leaves[0]) is tuple:
            return self._read_list(value, leaves[0], key)
        return self._read_leaf(value, leaves[0], key, ", or a section" if sections else "")

    def _read_map(self, value: Mapping[object, object], type_: Any, key: str) -> dict[object, object]:
        name_type, value_type = get_args(type_)
        read: dict[object, object] = {}
        for name, item in value.items():
            item_key = _join(key, str(name))
            normal = self._read_leaf(name, name_type, item_key)
            if normal in read:
                raise ConfigError(f"{self.source}: {item_key}: the same name stands here twice")
            read[normal] = self.read(item, value_type, item_key)
        return read

    def _read_list(self, value: object, type_: Any, key: str) -> tuple[object, ...]:
        """A list; one value standing alone is a list of one, and the environment separates by commas."""
        item_type = get_args(type_)[0]
        if isinstance(value, Variable):
            items: list[object] = [Variable(value.name, item.strip()) for item in value.split(",") if item.strip()]
        elif value is None:
            items = []
        else:
            items = value if isinstance(value, list) else [value]
        return tuple(self._read_leaf(item, item_type, key) for item in items)

    def _read_leaf(self, value: object, type_: Any, key: str, or_else: str = "") -> object:
        # str() leaves the environment's subclass behind.
        plain = str(value) if isinstance(value, Variable) else value
        if get_origin(type_) is Literal:
            if plain in get_args(type_):
                return plain
            raise self._wrong(key, value, "one of " + ", ".join(map(str, get_args(type_))))
        parse, expected = _LEAVES[type_]
        try:
            return parse(plain)
        except ValueError as error:
            raise self._wrong(key, value, expected + or_else) from error

    def _wrong(self, key: str, value: object, expected: str) -> ConfigError:
        if isinstance(value, Variable):
            return ConfigError(f"{value.name}: expected {expected}, got {str(value)!r}")
        return ConfigError(f"{self.source}: {key}: expected {expected}, got {_shown(value)}")

    def _unknown(self, section: str, name: str, value: object, siblings: list[str]) -> ConfigError:
        variable = _first_variable(value)
        key = variable.key if variable is not None else _join(section, name)
        hint = self._nearest(key, section, siblings)
        if variable is not None:
            meant = _variable_name(hint)
            if hint not in self.known:  # below a host name only the last level is ours to correct
                meant = variable.name.rpartition("__")[0] + "__" + hint.rpartition(".")[2].upper()
            return ConfigError(f"unknown variable {variable.name}" + (f" (did you mean {meant}?)" if hint else ""))
        if hint:
            return ConfigError(f"{self.source}: unknown key {key!r} (did you mean {hint!r}?)")
        return ConfigError(f"{self.source}: unknown key {key!r} (known here: {', '.join(siblings)})")

    def _nearest(self, key: str, section: str, siblings: list[str]) -> str:
        """The right key most like `key`: spelt like it in its section, or anywhere; or of the same name elsewhere."""
        name = key.removeprefix(section + ".") if section else key
        if close := difflib.get_close_matches(name, siblings, n=1):
            return _join(section, close[0])
        if close := difflib.get_close_matches(key, self.known, n=1, cutoff=0.75):
            return close[0]
        last = name.rpartition(".")[2]
        return next((known for known in self.known if known.rpartition(".")[2] == last), "")


def known_keys(type_: type[msgspec.Struct], section: str = "") -> Iterator[str]:
    """Every key path of a configuration but those below a name of the operator's choosing."""
    for field in msgspec.structs.fields(type_):
        key = _join(section, field.name)
        yield key
        for option in _options(field.type):
            if _is_section(option):
                yield from known_keys(option, key)


def _options(type_: Any) -> tuple[Any, ...]:
    """The members of a union, else the one type."""
    return get_args(type_) if get_origin(type_) in (Union, types.UnionType) else (type_,)


def _is_section(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, msgspec.Struct)


def _join(section: str, name: str) -> str:
    return f"{section}.{name}" if section else name


def _variable_name(key: str) -> str:
    return PREFIX + key.replace(".", "__").upper()


def _first_variable(value: object) -> Variable | None:
    """The environment variable that brought this value or something below it."""
    if isinstance(value, Mapping):
        return next((found for inner in value.values() if (found := _first_variable(inner))), None)
    return value if isinstance(value, Variable) else None


def _shown(value: object) -> str:
    """A value as its writer would know it again, cut short."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "keys and values (a section)"
    if isinstance(value, list):
        return "a list"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
