"""Changing single values of a settings file and nothing else of it, comments included.

Only for what programs must change: where a restored service keeps its database, where a drill listens. Whoever changes
a file loads it afterwards, which says whether it says what was wanted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping

Values = Mapping[str, str | int | bool | None]
"""New values by key; ``None`` takes one out."""


def with_values(text: str, table: str, values: Values) -> str:
    """``text`` with these keys of ``[table]``; ``None`` takes one out. Values are written on one line each.

    Raises ValueError where the file has no such table.
    """
    lines = text.split("\n")
    start = next((at for at, line in enumerate(lines) if re.fullmatch(rf"\s*\[{table}\]\s*(#.*)?", line)), None)
    if start is None:
        raise ValueError(f"settings: no table [{table}]")
    end = next((at for at in range(start + 1, len(lines)) if lines[at].lstrip().startswith("[")), len(lines))
    kept = list(_without(lines[start + 1 : end], values))
    new = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if value is not None]
    return "\n".join([*lines[: start + 1], *new, *kept, *lines[end:]])


def _without(lines: Iterable[str], keys: Values) -> Iterator[str]:
    """The lines but for those that set one of the keys; a list may go over several."""
    open_brackets = 0
    for line in lines:
        if open_brackets or _sets(line, keys):
            bare = re.sub(r'"(?:\\.|[^"\\])*"|\'[^\']*\'|#.*', "", line)
            open_brackets = max(0, open_brackets + bare.count("[") - bare.count("]"))
        else:
            yield line


def _sets(line: str, keys: Values) -> bool:
    return any(re.match(rf'\s*"?{key}"?\s*=', line) for key in keys)
