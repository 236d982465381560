"""The base class of every section of a study file, and the errors its validators raise."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Union, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Tag
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A table of the study file: frozen, without unknown keys, without conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    refused: ClassVar[Mapping[str, str]] = {}
    """Keys that a user may expect and the section does not have, with the reason."""


def union_of(sections: Mapping[str, type[Section]], default: str) -> Any:
    """Return the type of a section whose key `name` selects one of `sections`; left out, it is `default`."""

    def tag(raw: object) -> object:
        if isinstance(raw, Mapping):
            return raw.get("name", default)
        return getattr(raw, "name", None)

    options = tuple(Annotated[section, Tag(name)] for name, section in sections.items())
    return Annotated[Union[options], Discriminator(tag)]  # noqa: UP007 (the options are known at run time)


def sections_of(field: FieldInfo) -> dict[str, type[Section]]:
    """Return the sections that a field may hold: by name for a `union_of`, else under the empty name."""
    sections: dict[str, type[Section]] = {}
    for option in (field.annotation, *get_args(field.annotation)):
        section, *tags = get_args(option) or (option,)
        if isinstance(section, type) and issubclass(section, Section):
            sections[next((entry.tag for entry in tags if isinstance(entry, Tag)), "")] = section
    return sections


def rule_error(rule: str) -> PydanticCustomError:
    """Return the error to raise for a value that breaks `rule`."""
    return PydanticCustomError("rule", "{rule}", {"rule": rule})


def section_error(mistakes: Mapping[str, str]) -> PydanticCustomError:
    """Return the error to raise for a section; `mistakes` maps each faulty key to the rule it breaks."""
    return PydanticCustomError("inside", "{mistakes}", {"mistakes": mistakes})
