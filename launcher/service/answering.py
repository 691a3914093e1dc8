"""What a launcher does when a verb asks it to: pause, resume, migrate, and what :mod:`launcher.service.live` has."""

from __future__ import annotations

from launcher.core.migration import parse_target
from launcher.core.text import safe_text
from launcher.errors import WrongState
from launcher.io.control import Request
from launcher.io.qmp import Qmp
from launcher.service import live
from launcher.service.migrating import Departure
from launcher.service.record import Record

_VCPUS = {"pause": "stop", "resume": "cont"}


class Answers:
    """Of one launch. ``departure`` is the migration that was begun last."""

    def __init__(self, record: Record, qmp: Qmp) -> None:
        self._record = record
        self._qmp = qmp
        self._departure: Departure | None = None

    def answer(self, request: Request, *, ending: bool) -> dict[str, object]:
        """Carry out a command from the control socket. Raises `CvmError`; ``ending``: nothing is begun any more."""
        if request.word == "migration":
            return {"problem": "" if self._departure is None else self._departure.problem}
        if ending:
            raise WrongState("it is ending")
        if self._record.waiting:
            raise WrongState(f"it is not up: {self._record.waiting}")
        if request.word in live.COMMANDS:
            answer = live.COMMANDS[request.word](self._record.prepared, self._qmp, request.about)
            said = safe_text(str(answer.get("said", "done")), 400)
            if request.word not in live.SILENT:
                self._record.say(f"{request.word}: {said}")
            if live.changes(request.word, request.about):
                self._record.events.put("operator", request.word, {"said": said}, self._record.now())
            return answer
        if request.word == "migrate":
            return self._migrate(request)
        return self._pause(request.word)

    def follow(self, now: float) -> None:
        """How the migration does, every tick."""
        departure, progress = self._departure, self._record.progress
        if departure is None or departure.problem or progress.decided:
            return
        problem = departure.look(progress, now)
        if problem is not None:
            self._record.asked_to_end = self._record.asked_to_end or not problem
            self._record.say(f"migration: {problem or progress.reason}")
            if problem:
                self._record.events.put("launcher", "migration-failed", {"text": problem}, now)

    def _pause(self, word: str) -> dict[str, object]:
        """``paused`` or ``running`` afterwards."""
        if word not in _VCPUS:
            raise WrongState(f"its launcher knows no command {word[:20]!r}")
        if (word == "pause") == self._record.paused:
            raise WrongState("it is paused already" if self._record.paused else "it is not paused")
        self._qmp.execute(_VCPUS[word])
        self._record.pause(on=word == "pause")
        self._record.events.put("operator", word, {}, self._record.now())
        self._record.save()
        return {"state": "paused" if self._record.paused else "running"}

    def _migrate(self, request: Request) -> dict[str, object]:
        if self._departure is not None and not self._departure.problem:
            raise WrongState("it is on its way already")
        target = parse_target(str(request.about.get("to")), plain=True)  # who asked has said so, or was not let through
        self._departure = Departure(self._qmp, self._record.prepared.plan.spec, target)
        self._record.events.put("operator", "migrate", {"to": target.text}, self._record.now())
        return {"said": f"on its way to {target.text}"}
