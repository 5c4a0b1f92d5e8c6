"""Frozen, named configurations that survive a round trip through dict, JSON and YAML."""

import dataclasses
import importlib
import json
import pkgutil
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, Self, Union

from hiss.errors import UsageError, unknown

Options = Mapping[str, bool | int | float | str | tuple[bool | int | float | str | None, ...] | None]
"""Arguments for a class of another library, as a field of a spec."""


class Spec:
    """Base of every configuration: a frozen dataclass whose instances are plain data.

    A *family* is a direct subclass (`class NoiseSchedule(Spec)`); its members give themselves a name
    (`class Karras(NoiseSchedule, name="karras")`), are found by it, and write it under the key that `tag` says.
    Fields may be bool, int, float, str, None, Literal, other specs, tuples and string-keyed mappings of these.
    """

    name: ClassVar[str | None] = None
    tag: ClassVar[str] = "name"
    members: ClassVar[dict[str, type["Spec"]]] = {}

    def __init_subclass__(cls, name: str | None = None) -> None:
        if Spec in cls.__bases__:
            cls.members = {}
        cls.name = name
        if name is not None:
            cls.members[name] = cls

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data: dicts, lists, strings, numbers, booleans and None."""
        head = {} if self.name is None else {self.tag: self.name}
        return head | {field.name: _plain(getattr(self, field.name)) for field in _fields(type(self))}

    @classmethod
    def from_dict(cls, data: Any, where: str = "config") -> Self:
        """Returns the spec that `to_dict` wrote.

        Raises:
            UsageError: a key is unknown or missing, or a value has the wrong type; the sentence lists the valid ones.
        """
        if not isinstance(data, Mapping):
            raise UsageError(f"{where} must be a mapping, not {data!r}")
        data = dict(data)
        target: type[Spec] = cls
        if cls.members:
            named = data.pop(cls.tag, cls.name)
            if not isinstance(named, str) or named not in cls.members:
                raise unknown(f"{cls.tag} in {where}", named, cls.members)
            target = cls.members[named]
            if not issubclass(target, cls):
                raise UsageError(f"{where}: {named!r} is no {cls.__name__}")
        fields = {field.name: field for field in _fields(target)}
        for key in data:
            if key not in fields:
                raise unknown(f"key in {where}", key, fields)
        missing = [key for key, field in fields.items() if key not in data and _required(field)]
        if missing:
            raise UsageError(f"{where} lacks {', '.join(missing)}")
        hints = typing.get_type_hints(target)
        values = {key: _parse(value, hints[key], f"{where}.{key}") for key, value in data.items()}
        return typing.cast(Self, target(**values))

    def to_json(self) -> str:
        """Returns the spec as indented JSON text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"


def _fields(cls: type[Spec]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(typing.cast(Any, cls))


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _plain(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _parse(value: Any, hint: Any, where: str) -> Any:
    """Returns `value` as the annotated type `hint`, or says at `where` what does not fit."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _parse_any(value, [a for a in arguments if a is not type(None)], where)
    if origin is Literal:
        if value not in arguments:
            raise unknown(where, value, map(str, arguments))
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_parse(item, arguments[0], f"{where}[{i}]") for i, item in enumerate(value))
        if len(arguments) == len(value):
            pairs = zip(value, arguments, strict=True)
            return tuple(_parse(item, kind, f"{where}[{i}]") for i, (item, kind) in enumerate(pairs))
        raise UsageError(f"{where} must have {len(arguments)} values, not {len(value)}")
    if origin is not None and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {str(key): _parse(item, arguments[1], f"{where}.{key}") for key, item in value.items()}
    if isinstance(hint, type):
        if issubclass(hint, Spec):
            return hint.from_dict(value, where)
        if hint is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
            return value
    raise UsageError(f"{where} must be {getattr(hint, '__name__', hint)}, not {value!r}")


def _parse_any(value: Any, hints: list[Any], where: str) -> Any:
    """Returns `value` as the first of several annotated types that takes it."""
    for hint in hints[:-1]:
        try:
            return _parse(value, hint, where)
        except UsageError:
            continue
    return _parse(value, hints[-1], where)


def discover(package: str, path: Iterable[str]) -> None:
    """Imports every module of an open folder, so that the specs it defines join their families."""
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")
