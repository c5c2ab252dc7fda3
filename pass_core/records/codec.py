"""Frozen dataclasses as JSON and back, by their annotations: types, bounds, and errors that name the field's full path.

- A dataclass is an object with a key for each field; fields named in `inline` put their own fields there instead.
- A tuple or another sequence is a list, read as a tuple; a frozenset is a sorted list, an enumeration its value, a time
  its ISO text, and bytes are two hexadecimal digits each under the field's name with `_hex`.
- NaN and infinities are the texts "nan", "inf" and "-inf", so that other readers do not choke.
- A whole number is from 0 to `LARGEST` unless `bounds` says otherwise.
- A field that is not its maker's to choose (`init=False`) is written, and not read.
- A field that may be None may be left out, and so may the fields in `optional`; every other field must be there.
- Text is well-formed: U+FFFD replaces lone surrogates.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar, cast

from pass_core.records.errors import BrokenRecord
from pass_core.text import well_formed

JsonDict = dict[str, Any]
T = TypeVar("T")
_Write = Callable[[Any], Any]
_Read = Callable[[Any], Any]

LARGEST = 2**53 - 1  # beyond it, JSON readers of other languages round
_DIGITS = 40  # of a number shown in an error


class _Fault(Exception):
    """What is wrong, and where, from the innermost field outwards."""

    def __init__(self, wanted: str, found: object = None, *, said: str = "") -> None:
        super().__init__()
        self.wanted, self.found, self.said = wanted, found, said
        self.path: list[str | int] = []

    def sentence(self, path: str) -> str:
        where = path
        for key in self.path:
            where += f"[{key}]" if isinstance(key, int) else f".{key}" if where else key
        if self.said == "missing":
            return f"The run file is broken: “{where}” is missing. Export the run again."
        if self.said:
            return f"The run file is broken: in “{where}”, {self.said}."
        return (
            f"The run file is broken: “{where or 'the top level'}” should be {self.wanted}, but is "
            f"{_shown(self.found)}. Export the run again."
        )


class Codec:
    """
    Args:
        bounds: (dataclass, field) -> least and greatest whole number.
        unions: union of dataclasses -> which of them an object is.
        inline: (dataclass, field) of fields that are dataclasses themselves and have no object of their own.
        optional: (dataclass, field) that older files lack; the field then has its default.
        left_out: those of the optional fields that are not written where they have their default: programs that do not
            know them then still read the file, and rightly.
    """

    def __init__(
        self,
        *,
        bounds: Mapping[tuple[type, str], tuple[int, int]],
        unions: Mapping[Any, Callable[[JsonDict], type]] | None = None,
        inline: frozenset[tuple[type, str]] = frozenset(),
        optional: frozenset[tuple[type, str]] = frozenset(),
        left_out: frozenset[tuple[type, str]] = frozenset(),
    ) -> None:
        self._bounds, self._inline, self._optional = bounds, inline, optional | left_out
        self._left_out = left_out
        self._unions = unions or {}
        self._writers: dict[Any, _Write] = {}
        self._readers: dict[tuple[Any, tuple[int, int]], _Read] = {}

    def write(self, value: Any) -> JsonDict:
        """The JSON object of a dataclass."""
        return self._writer(type(value))(value)

    def read(self, kind: type[T], raw: object, path: str = "") -> T:
        """The dataclass of a JSON object.

        Args:
            path: where the object stands, for errors.

        Raises:
            BrokenRecord: naming the field, what it should be, and what it is.
        """
        return cast(T, self.read_either(kind, raw, path))

    def read_either(self, kind: Any, raw: object, path: str = "") -> object:
        """As `read`, of a dataclass or of one of `unions`."""
        try:
            return self._reader(kind, (0, LARGEST))(raw)
        except _Fault as fault:
            raise BrokenRecord(fault.sentence(path)) from fault.__cause__

    def keys(self, kind: type) -> list[str]:
        """Every key that the JSON object of a dataclass may have, in order."""
        out: list[str] = []
        for name, hint in _fields(kind).items():
            out += self.keys(hint) if (kind, name) in self._inline else [_key(name, hint)]
        return out

    # --- writing

    def _writer(self, kind: Any) -> _Write:
        if kind not in self._writers:
            self._writers[kind] = self._make_writer(kind)
        return self._writers[kind]

    def _make_writer(self, kind: Any) -> _Write:
        inner = _without_none(kind)
        if inner is not kind:
            write = self._writer(inner)
            return lambda value: None if value is None else write(value)
        if kind in self._unions:
            return self.write
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (tuple, Sequence):
            item = self._writer(arguments[0])
            return lambda value: [item(x) for x in value]
        if origin is frozenset:
            item = self._writer(arguments[0])
            return lambda value: sorted(item(x) for x in value)
        if dataclasses.is_dataclass(kind):
            return self._object_writer(cast(type, kind))
        if issubclass(kind, Enum):
            return lambda value: value.value
        if kind is float:
            return finite
        return {bytes: bytes.hex, datetime: datetime.isoformat}.get(kind, _itself)

    def _object_writer(self, kind: type) -> _Write:
        plan = [
            (name, _key(name, hint), self._writer(hint), (kind, name) in self._inline)
            for name, hint in _fields(kind).items()
        ]
        usual = {f.name: f.default for f in dataclasses.fields(kind) if (kind, f.name) in self._left_out}

        def write(value: Any) -> JsonDict:
            out: JsonDict = {}
            for name, key, field, inline in plan:
                if name in usual and getattr(value, name) == usual[name]:
                    continue
                made = field(getattr(value, name))
                if inline:
                    out.update(made)
                else:
                    out[key] = made
            return out

        return write

    # --- reading

    def _reader(self, kind: Any, bounds: tuple[int, int]) -> _Read:
        if (kind, bounds) not in self._readers:
            self._readers[kind, bounds] = self._make_reader(kind, bounds)
        return self._readers[kind, bounds]

    def _make_reader(self, kind: Any, bounds: tuple[int, int]) -> _Read:
        inner = _without_none(kind)
        if inner is not kind:
            read = self._reader(inner, bounds)
            return lambda raw: None if raw is None else read(raw)
        if kind in self._unions:
            which = self._unions[kind]
            return lambda raw: self._reader(which(_object(raw)), bounds)(raw)
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (tuple, Sequence, frozenset):
            make = frozenset if origin is frozenset else tuple
            return _list_reader(self._reader(arguments[0], bounds), make)
        if dataclasses.is_dataclass(kind):
            return self._object_reader(cast(type, kind))
        if issubclass(kind, Enum):
            return _choice_reader(kind)
        if kind is int:
            return _integer_reader(*bounds)
        return {bool: _flag, float: _number, str: _text, bytes: _bytes, datetime: _time}[kind]

    def _object_reader(self, kind: type) -> _Read:
        plan: list[tuple[str, str, _Read, bool, bool]] = []
        given_by_maker = {f.name for f in dataclasses.fields(kind) if f.init}
        for name, hint in _fields(kind).items():
            if name not in given_by_maker:
                continue
            read = self._reader(hint, self._bounds.get((kind, name), (0, LARGEST)))
            may_lack = (kind, name) in self._optional or _without_none(hint) is not hint
            plan.append((name, _key(name, hint), read, may_lack, (kind, name) in self._inline))

        def read_object(raw: Any) -> Any:
            given = _object(raw)
            values: JsonDict = {}
            for name, key, read, may_lack, inline in plan:
                if inline:
                    values[name] = read(given)
                    continue
                value = given.get(key)
                if value is None and may_lack:
                    continue
                try:
                    if value is None and key not in given:
                        raise _Fault("", said="missing")
                    values[name] = read(value)
                except _Fault as fault:
                    fault.path.insert(0, key)
                    raise
            try:
                return kind(**({n: None for n in lacking if n not in values} | values))
            except ValueError as error:  # the dataclass checks ranges itself
                raise _Fault("", said=str(error)) from error

        defaults = {f.name for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING}
        lacking = [name for name, _, _, may_lack, _ in plan if may_lack and name not in defaults]
        return read_object


def finite(value: Any) -> Any:
    """NaN and infinities as text, anything else as it is."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _fields(kind: type) -> dict[str, Any]:
    """Names and types of a dataclass's fields, in order."""
    hints = typing.get_type_hints(kind, localns={})  # a field may be named like a type: bytes
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)}


def _without_none(kind: Any) -> Any:
    """X of `X | None`; anything else as it is."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        rest = [a for a in typing.get_args(kind) if a is not types.NoneType]
        if len(rest) == 1:
            return rest[0]
    return kind


def _key(name: str, kind: Any) -> str:
    return f"{name}_hex" if kind is bytes else name


def _object(raw: Any) -> JsonDict:
    if not isinstance(raw, dict):
        raise _Fault("an object with named fields", raw)
    return cast(JsonDict, raw)


def _itself(value: Any) -> Any:
    return value


def _list_reader(item: _Read, make: Callable[[Any], Any]) -> _Read:
    def read(raw: Any) -> Any:
        if not isinstance(raw, list):
            raise _Fault("a list", raw)
        values: list[Any] = []
        for i, one in enumerate(cast(list[Any], raw)):
            try:
                values.append(item(one))
            except _Fault as fault:
                fault.path.insert(0, i)
                raise
        return make(values)

    return read


def _choice_reader(kind: type[Enum]) -> _Read:
    known: dict[Any, Enum] = {m.value: m for m in kind}

    def read(raw: Any) -> Any:
        if not isinstance(raw, str) or raw not in known:
            raise _Fault("one of " + ", ".join(known), raw)
        return known[raw]

    return read


def _integer_reader(least: int, greatest: int) -> _Read:
    def read(raw: Any) -> int:
        if type(raw) is not int or not least <= raw <= greatest:
            raise _Fault(f"a whole number of at least {_digits(least)} and at most {_digits(greatest)}", raw)
        return raw

    return read


def _flag(raw: Any) -> bool:
    if not isinstance(raw, bool):
        raise _Fault("true or false", raw)
    return raw


def _number(raw: Any) -> float:
    if type(raw) is float:
        return raw
    if raw in ("nan", "inf", "-inf"):
        return float(raw)
    if type(raw) is int and abs(raw) <= 10**300:
        return float(raw)
    raise _Fault("a number", raw)


def _text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise _Fault("text", raw)
    return well_formed(raw)


def _bytes(raw: Any) -> bytes:
    try:
        return bytes.fromhex(_text(raw))
    except ValueError:
        raise _Fault("pairs of hexadecimal digits", raw) from None


def _time(raw: Any) -> datetime:
    try:
        time = datetime.fromisoformat(_text(raw))
        time = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
        time.astimezone(UTC)  # out of range beside an offset
    except (ValueError, OverflowError):
        raise _Fault("a date and time such as 2026-01-31T12:00:00+00:00", raw) from None
    return time


def _digits(number: int) -> str:
    return str(number) if abs(number) < 10**_DIGITS else f"{'-' if number < 0 else ''}10^{_DIGITS} and more"


def _shown(found: object) -> str:
    if type(found) is int:
        return _digits(found)
    shown = json.dumps(found, default=str)
    return shown if len(shown) <= 60 else shown[:57] + "…"
