"""Dataclasses to and from JSON, by dataclasses-json. It is imported when it is used: that takes as long as `--help`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses_json import DataClassJsonMixin

    JsonForms = DataClassJsonMixin
else:

    class JsonForms:
        """Base of dataclasses that have a form as plain data and as JSON: the methods of DataClassJsonMixin."""

        def to_dict(self, *args: Any, **options: Any) -> Any:
            """Return the fields by name, as plain data."""
            return _mixin().to_dict(self, *args, **options)

        def to_json(self, **options: Any) -> Any:
            """Return the fields as JSON."""
            return _mixin().to_json(self, **options)

        @classmethod
        def from_dict(cls, tree: Any, **options: Any) -> Any:
            """Read what `to_dict` returned."""
            return _mixin().from_dict.__func__(cls, tree, **options)

        @classmethod
        def from_json(cls, text: Any, **options: Any) -> Any:
            """Read what `to_json` returned."""
            return _mixin().from_json.__func__(cls, text, **options)


def _mixin() -> Any:
    from dataclasses_json import DataClassJsonMixin

    return DataClassJsonMixin
