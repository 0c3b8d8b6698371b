"""Values of a YAML document: plain types, unique keys, limited number."""

import re
from typing import Any

import yaml

# The values of an alias count each time.
MAX_VALUES = 50_000
MAX_DEPTH = 30


class WizardConfigError(Exception):
    """A wizard configuration cannot be used; the message is a sentence."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars, as the wizard writes them; in PyYAML's 1.1 ON is true."""

    yaml_implicit_resolvers = {}


_MERGE, _NULL, _BOOL, _INT, _FLOAT, _STR, _SEQ, _MAP = (
    f"tag:yaml.org,2002:{name}" for name in ("merge", "null", "bool", "int", "float", "str", "seq", "map")
)
# Longer numbers are read as text.
_SCALARS = {
    _NULL: re.compile(r"~|null|Null|NULL|"),
    _BOOL: re.compile(r"true|True|TRUE|false|False|FALSE"),
    _INT: re.compile(r"[-+]?[0-9]{1,18}"),
    _FLOAT: re.compile(r"[-+]?(?:\.[0-9]{1,18}|[0-9]{1,18}(?:\.[0-9]{0,18})?)(?:[eE][-+]?[0-9]{1,3})?"),
    _MERGE: re.compile(r"<<"),
}
_ANY = re.compile(r".*", re.DOTALL)
for _tag, _pattern in _SCALARS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern.pattern})\Z"), None)


def values_in(text: str) -> Any:  # noqa: ANN401
    """The values in a document: str, numbers, bool, None, list, dict.

    None for an empty document. Raises WizardConfigError.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise _no_yaml(error.problem or "", error.problem_mark) from None
    except yaml.YAMLError as error:
        raise _no_yaml(str(error).splitlines()[0], None) from None
    except RecursionError:
        raise WizardConfigError("The file is nested too deeply.") from None
    return _Values().of(node, 0) if node else None


def _no_yaml(problem: str, mark: yaml.Mark | None) -> WizardConfigError:
    where = f" in line {mark.line + 1}" if mark else ""
    return WizardConfigError(f"The file is no valid YAML{where}: {problem}.")


class _Values:
    """Builds values, and stops before aliases or depth make them too many."""

    def __init__(self) -> None:
        self._built = 0

    def of(self, node: yaml.Node, depth: int) -> Any:  # noqa: ANN401
        self._built += 1
        if self._built > MAX_VALUES:
            raise WizardConfigError(
                f"The file spells out more than {MAX_VALUES:,} values, with aliases of aliases perhaps."
            )
        if depth > MAX_DEPTH:
            raise WizardConfigError("The file is nested too deeply.")
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQ:
            return [self.of(item, depth + 1) for item in node.value]
        if isinstance(node, yaml.MappingNode) and node.tag == _MAP:
            return self._mapping(node, depth)
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _no_yaml("a key that is no word", key_node.start_mark)
            value = self.of(value_node, depth + 1)
            if key_node.tag == _MERGE:
                merged = _merged(value, key_node) | merged
                continue
            key = str(key_node.value)
            if key in found:
                raise _no_yaml(f"the key {key} stands there twice", key_node.start_mark)
            found[key] = value
        return merged | found


def _merged(value: Any, key: yaml.Node) -> dict[Any, Any]:  # noqa: ANN401
    together: dict[Any, Any] = {}
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, dict):
            raise _no_yaml("<< takes mappings only", key.start_mark)
        together = one | together
    return together


def _scalar(node: yaml.Node) -> Any:  # noqa: ANN401
    pattern = _ANY if node.tag == _STR else _SCALARS.get(node.tag)
    if pattern is None or not isinstance(node, yaml.ScalarNode) or not pattern.fullmatch(node.value):
        raise _no_yaml(f"this is nothing of the type {node.tag.rpartition(':')[2]}", node.start_mark)
    if node.tag == _BOOL:
        return node.value.lower() == "true"
    if node.tag in (_INT, _FLOAT):
        return int(node.value) if node.tag == _INT else float(node.value)
    return None if node.tag == _NULL else node.value
