"""The process that runs Rego: it has no key, no file and no network of the service, a bound on memory, and no way out.

Started by :mod:`attest.broker.rego_engine` as a program of its own, with a socket as standard input and output and next
to no environment. One JSON object a line: a question with ``policy``, ``data``, ``input`` and ``query``; the answer has
``value``, or ``undefined``, or ``error``. The parent kills it when an answer takes too long. It imports nothing of
ours: the parent runs this very file.
"""

from __future__ import annotations

import ctypes
import json
import resource
import signal
import sys
from typing import Any

MEMORY_BYTES = 512 << 20
MAX_LINE = 4 << 20
KEPT = 8
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38

# What Trustee's engine has built in, in words of Rego.
SHIM = (
    "package policy\n\nimport rego.v1\n\n"
    "query_reference_value(name) := object.get(data.cvm.reference_values, name, null)\n"
)


def confine() -> None:
    """Give up what evaluating needs no more. The engine is loaded before."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_DUMPABLE, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    limits = {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 3,
        resource.RLIMIT_NPROC: 0,
    }
    for name, most in limits.items():
        resource.setrlimit(name, (most, most))


def answer(engines: dict[str, Any], make: Any, question: dict[str, Any]) -> dict[str, Any]:
    """Evaluate one question; an engine is kept for the last few policies."""
    policy = question["policy"]
    try:
        engine = engines.pop(policy, None)
        if engine is None:
            engine = make()
            engine.add_policy("policy.rego", policy)
            engine.add_policy("reference_values.rego", SHIM)
        engine.clear_data()
        engine.add_data_json(json.dumps(question["data"]))
        engine.set_input_json(json.dumps(question["input"]))
        results = json.loads(engine.eval_query_as_json(question["query"])).get("result") or []
    except RuntimeError as exc:
        return {"error": _first_lines(str(exc))}
    engines[policy] = engine
    if len(engines) > KEPT:
        del engines[next(iter(engines))]
    values = [expression["value"] for result in results for expression in result["expressions"]]
    return {"value": values[0]} if len(values) == 1 else {"undefined": True}


def _first_lines(text: str) -> str:
    """What and where, without the engine's own stack."""
    lines = [line.strip(" |") for line in text.split("Stack backtrace")[0].splitlines()]
    return " ".join(line for line in lines if line)[:400]


def main() -> None:
    """Answer until the parent is gone."""
    import regorus

    confine()
    engines: dict[str, Any] = {}
    while line := sys.stdin.buffer.readline(MAX_LINE):
        reply = json.dumps(answer(engines, regorus.Engine, json.loads(line)))
        sys.stdout.buffer.write(reply.encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
