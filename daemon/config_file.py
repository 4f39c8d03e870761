"""Reads a YAML file into a plain tree, with errors that name file, line and column. Duplicate keys are errors."""

from pathlib import Path
from typing import Any

import yaml

from daemon.errors import ConfigError


class _StrictLoader(yaml.SafeLoader):
    """YAML lets a later key silently win over an earlier one; in a configuration that is always a mistake."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Checked as the node is composed: later, merge keys (<<) may rightly repeat what they override.
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key.value!r}", key.start_mark)
                seen.add(key.value)
        return node


def read_tree(path: Path) -> dict[object, object]:
    """The file's keys and values; an empty file is an empty tree. ConfigError when unreadable or malformed."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    try:
        tree = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{path.name}: {where}{error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path.name}: not YAML: {_first_line(error)}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path.name}: expected keys and values at the top, got {type(tree).__name__}")
    return tree


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
