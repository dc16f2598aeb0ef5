"""The shapes of JSON output: each declared once, as the type of the data that a view makes.

A view's data is a TypedDict, so mypy refuses a view that leaves out a key, adds one or
gives it another type. `json_schema` makes the published JSON Schema from that same class.
There is nothing to keep in step.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

if TYPE_CHECKING:
    # Given on under the same name: views get it from here.
    from typing import TypedDict as TypedDict  # noqa: PLC0414
else:

    class TypedDict:
        """Stands for typing's own, which compiles every annotation: 50 µs a key, in every command."""


T = TypeVar("T")


class Keyword(NamedTuple):
    """A keyword of JSON Schema that a type alone does not say."""

    name: str
    value: Any


#: A number of tokens: within what every JSON reader keeps exactly.
Tokens = Annotated[int, Keyword("minimum", -(2**53) + 1), Keyword("maximum", 2**53 - 1)]
#: How many.
Count = Annotated[int, Keyword("minimum", 0)]
#: A transaction's name, USER:SEQ.
EntryName = Annotated[str, Keyword("pattern", r"^[A-Za-z0-9._:@][A-Za-z0-9._:@-]*:[1-9][0-9]*$")]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    datetime: {"type": "string", "format": "date-time", "pattern": "Z$"},
    types.NoneType: {"type": "null"},
    Any: {},
}


class Meta(TypedDict):
    """What every result says of its run."""

    request_id: str
    profile: str
    at: datetime
    took_ms: int
    dry_run: bool
    replayed: bool
    warnings: list[str]


@dataclass(frozen=True)
class Schema(Generic[T]):
    """A name that outputs carry, tokenctl.<thing>.v1, and the type of what stands under it.

    `meta` is the type of a document's meta. A `flat` object is a line of JSON Lines: its
    keys stand beside `schema`.
    """

    name: str
    shape: type[T]
    meta: type = Meta
    flat: bool = False

    @property
    def is_list(self) -> bool:
        """Whether the data is a list of objects."""
        return get_origin(self.shape) is list

    @property
    def row_name(self) -> str:
        """The name of one of its rows in JSON Lines."""
        return self._derived("row")

    @property
    def summary_name(self) -> str:
        """The name of the line that ends its JSON Lines."""
        return self._derived("summary")

    def _derived(self, part: str) -> str:
        name, version = self.name.rsplit(".", 1)
        return f"{name}_{part}.{version}"

    def published(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each name that outputs of this kind carry, with its JSON Schema."""
        if self.flat:
            yield self.name, _line(self.name, self.shape)
            return
        yield self.name, self._document()
        if self.is_list:
            (row,) = get_args(self.shape)
            yield self.row_name, _line(self.row_name, row)
            last = _line(self.summary_name, self.meta, {"rows": json_schema(Count)})
            said = last["description"]
            yield self.summary_name, last | {"description": f"The last line of a list: {said[0].lower()}{said[1:]}"}

    def _document(self) -> dict[str, Any]:
        properties = {"schema": {"const": self.name}, "data": json_schema(self.shape), "meta": json_schema(self.meta)}
        return named(self.name, {"type": "object", "properties": properties, "required": list(properties)})


def json_schema(kind: Any) -> dict[str, Any]:
    """The JSON Schema of a type: TypedDict classes, lists, mappings, unions and plain values.

    Raises TypeError for any other.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return json_schema(inner[0]) | {word.name: word.value for word in inner[1:] if isinstance(word, Keyword)}
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    if isinstance(kind, type) and issubclass(kind, TypedDict):  # type: ignore[arg-type]  # a class, at run time
        return _object(kind)
    if origin in (Union, types.UnionType):
        return _either([json_schema(one) for one in inner])
    if origin is list:
        return {"type": "array", "items": json_schema(inner[0])}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": json_schema(inner[1])}
    raise TypeError(f"no JSON Schema for {kind!r}")


def named(name: str, described: Mapping[str, Any]) -> dict[str, Any]:
    """A schema that stands alone, under its name."""
    return {"$schema": _DIALECT, "$id": f"urn:tokenctl:schema:{name}", "title": name, **described}


def _object(shape: type) -> dict[str, Any]:
    """Every key is always there; what is absent is null. Later versions may add keys."""
    properties = {name: json_schema(kind) for name, kind in get_type_hints(shape, include_extras=True).items()}
    said = {"description": " ".join(shape.__doc__.split())} if shape.__doc__ else {}
    return {**said, "type": "object", "properties": properties, "required": list(properties)}


def _either(choices: list[dict[str, Any]]) -> dict[str, Any]:
    """Some type or null, in the short form where there is one."""
    plain = [choice for choice in choices if set(choice) == {"type"}]
    return {"type": [choice["type"] for choice in plain]} if plain == choices else {"anyOf": choices}


def _line(name: str, shape: type, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The schema of one line of JSON Lines."""
    described = _object(shape)
    described["properties"] = {"schema": {"const": name}, **(more or {}), **described["properties"]}
    return named(name, described | {"required": list(described["properties"])})
