"""Finding the route of a request in a listener's table.

A path's ``<name>`` stands for one segment, ``<path:name>`` for what is left. Where several rows fit, the one with fewer
of those, seen from the left, counts. A slash behind a path is passed over, unless it belongs to a ``<path:name>``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attest.web.problems import HttpRefused
from attest.web.routes import Route

_ARGUMENT = re.compile(r"<(path:)?([a-z]+)>")


class Table:
    """The routes of one listener."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._plain: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        for path in sorted(dict.fromkeys(route.path for route in routes), key=_breadth):
            methods = {route.method: route for route in routes if route.path == path}
            if "<" in path:
                self._patterns.append((_pattern(path), methods))
            else:
                self._plain[path] = methods

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route and what the path gives for its arguments.

        Raises HttpRefused: 404 where no row has the path, 405 where those that have it have another method.
        """
        plain = self._plain.get(path) or self._plain.get(path.removesuffix("/"))
        found = [(plain, {})] if plain else self._matching(path)
        for methods, arguments in found:
            if method in methods:
                return methods[method], arguments
        if not found:
            raise HttpRefused(404, "Not Found", "there is nothing at this path")
        allowed = dict.fromkeys(name for methods, _ in found for name in methods)
        raise HttpRefused(405, "Method Not Allowed", "this path has other methods", {"Allow": ", ".join(allowed)})

    def _matching(self, path: str) -> list[tuple[dict[str, Route], dict[str, str]]]:
        matches = ((pattern.fullmatch(path), methods) for pattern, methods in self._patterns)
        return [(methods, match.groupdict()) for match, methods in matches if match is not None]


def _breadth(path: str) -> list[int]:
    """By segments: 0 for a word, 1 for an argument, 2 for the rest of the path."""
    found = (_ARGUMENT.fullmatch(segment) for segment in path.split("/"))
    return [0 if match is None else 2 if match[1] else 1 for match in found]


def _pattern(path: str) -> re.Pattern[str]:
    segments = [_ARGUMENT.fullmatch(segment) or segment for segment in path.split("/")]
    behind = "" if "<path:" in path else "/?"
    return re.compile("/".join(map(_segment, segments)) + behind, re.DOTALL)


def _segment(part: re.Match[str] | str) -> str:
    if isinstance(part, str):
        return re.escape(part)
    return f"(?P<{part[2]}>[^/].*?)" if part[1] else f"(?P<{part[2]}>[^/]+)"
