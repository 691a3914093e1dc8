"""An audit record in words."""

from __future__ import annotations

from typing import Any

from policy.explain import check_line


def record_lines(record: Any, sha256: str) -> list[str]:
    """Lines for one record: who, what, and for a decision every check, failures first."""
    body, actor = record["body"], record["actor"]
    emulated = " — EMULATED hardware" if body.get("emulated") else ""
    lines = [
        f"record {record['seq']}  {record['kind']}  {record['outcome']}{emulated}",
        f"time      {record['time']}",
        f"actor     {actor['kind']} {actor['name']}".rstrip(),
        f"subject   {record['subject']}",
        f"sha256    {sha256}",
        f"previous  {record['previous']}",
    ]
    if record["kind"] != "decision":
        return lines + [f"{name:<9} {value}" for name, value in body.items() if value not in (None, [], {})]
    return lines + _decision(body)


def _decision(body: Any) -> list[str]:
    lines = [f"summary   {body['summary']}", f"policy    sha256:{body['rules']['policy']}"]
    if body["failure"]:
        lines.append(f"failure   {body['failure']['code']}: {body['failure']['message']}")
    checks = body["decision"]["checks"] if body["decision"] else []
    for check in sorted(checks, key=lambda item: item["outcome"] != "fail"):
        lines.append(f"{check_line(check)} — {check['clause']}")
    return lines
