"""Signed statements about launches reach the service they belong to; a launch waits for that only where it must."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import main
from launcher.io import outbox
from launcher.io.key_service import ServiceRefused, ServiceUnavailable
from launcher.io.launch_record import Ended, Signed, host_key, sign_end
from launcher.service import reporting
from launcher.service.reporting import Destination, send_waiting, try_for_a_while
from policy.errors import CvmError
from tests.fakes.served import Served
from tests.unit.launcher.service.conftest import Scene
from tests.unit.launcher.service.test_launching import GOOD
from tests.until import until

AWAY = "https://127.0.0.1:1"
CA = b"\x30\x82\x00\x00"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The real program; no host is registered."""
    served = Served(tmp_path_factory.mktemp("told") / "service").init().start()
    yield served
    assert served.stop() == 0


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CVM_STATE", str(tmp_path / "state"))
    host_key()
    return tmp_path / "state"


@pytest.fixture
def no_sender(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """How often a sender in the background was wanted; none is started."""
    started: list[None] = []
    monkeypatch.setattr("launcher.service.telling._start_sender", lambda: started.append(None))
    return started


def statement(vm: str = "web-1") -> Signed:
    signed = sign_end(Ended(vm, "2026-01-01T00:00:00+00:00", "00" * 32, "ran", "", False, 1))
    assert signed is not None
    return signed


def attesting(path: Path, service: str, ca: Path | None = None, **more: str) -> Path:
    """The VM file, with this service in it."""
    if ca is not None:
        shutil.copy(ca, path.parent / "ca.der")
    lines = [f'service = "{service}"', *(f'{name} = "{value}"' for name, value in more.items())]
    path.write_text(path.read_text().replace('service = "https://127.0.0.1:8443"', "\n".join(lines)))
    return path


def register(service: Served, name: str, tmp_path: Path) -> None:
    (tmp_path / "host.pem").write_bytes(host_key())
    assert service.attest("host", "add", name, str(tmp_path / "host.pem")).code == 0


def kinds(service: Served, host: str) -> list[tuple[str, Any]]:
    """What is on record of a host: kind, and for an end the launch it ends."""
    listed = [
        json.loads(service.attest("audit", "list", "--json", "--kind", kind).out) for kind in ("launch", "launch-end")
    ]
    numbers = sorted(entry["number"] for document in listed for entry in document["records"])
    shown = [json.loads(service.attest("audit", "show", str(number), "--json").out) for number in numbers]
    return [(found["kind"], found["body"].get("launch")) for found in shown if found["body"]["host"] == host]


def test_a_launch_that_requires_it_is_on_record_before_qemu_starts_and_its_end_follows(
    service: Served, scene: Scene, capsys: pytest.CaptureFixture[str], tmp_path: Path, no_sender: list[None]
) -> None:
    register(service, "required", tmp_path)
    path = scene(*GOOD, platform="emulated-snp")
    url = f"https://localhost:{service.port}"
    attesting(path, url, service.folder / "ca.pem", launch_record="required")
    assert main(["launch", str(path), "--quiet"]) == 0
    assert [kind for kind, _ in kinds(service, "required")] == ["launch"]
    assert main(["ledger", "--send", "--json"]) == 0
    capsys.readouterr()
    (_, _), (kind, launch) = kinds(service, "required")
    assert kind == "launch-end"
    assert launch is not None
    assert main(["ledger", "vm-1", "--json"]) == 0
    acknowledged = json.loads(capsys.readouterr().out)["acknowledged"]
    assert [(entry["vm"], entry["service"]) for entry in acknowledged] == [("vm-1", url)] * 2
    assert no_sender == [None]
    assert service.attest("audit", "verify").code == 0


def test_what_the_process_in_the_background_sends_arrives(
    service: Served, scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(service, "background", tmp_path)
    path = attesting(
        scene(*GOOD, platform="emulated-snp"), f"https://localhost:{service.port}", service.folder / "ca.pem"
    )
    assert main(["launch", str(path), "--quiet"]) == 0
    until(lambda: not outbox.waiting(), "everything is sent")
    assert sorted(kind for kind, _ in kinds(service, "background")) == ["launch", "launch-end"]
    capsys.readouterr()


def test_a_host_nobody_registered_is_told_what_to_do_and_keeps_its_statements(
    service: Served, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outbox.keep("web-1", statement(), None, None)
    words = ["ledger", "--send", f"https://localhost:{service.port}", "--ca", str(service.folder / "ca.pem")]
    assert main(words) == 3
    assert "no registered host signed it" in capsys.readouterr().err
    assert len(outbox.waiting()) == 1


def test_a_service_that_is_away_fails_no_launch_and_what_waits_is_kept(
    scene: Scene, state: Path, capsys: pytest.CaptureFixture[str], no_sender: list[None]
) -> None:
    path = attesting(scene(*GOOD, platform="emulated-snp"), AWAY)
    assert main(["launch", str(path), "--quiet"]) == 0
    assert [item.service for item in outbox.waiting()] == [AWAY] * 2
    assert no_sender == [None] * 2
    assert main(["ledger", "--send"]) != 0
    assert len(outbox.waiting()) == 2
    capsys.readouterr()


def test_a_service_that_is_away_fails_a_launch_that_requires_it_and_says_so_in_the_ledger(
    service: Served, scene: Scene, state: Path, capsys: pytest.CaptureFixture[str], no_sender: list[None]
) -> None:
    path = attesting(scene(*GOOD, platform="emulated-snp"), AWAY, service.folder / "ca.pem", launch_record="required")
    assert main(["launch", str(path), "--quiet"]) == 8
    capsys.readouterr()
    assert main(["ledger", "vm-1", "--json"]) == 0
    events = [entry["event"] for entry in json.loads(capsys.readouterr().out)["entries"]]
    assert events == ["launch", "failed-to-start"]
    assert not (path.parents[1] / "state" / "vm-1" / "qmp.sock").exists()


def test_a_launch_that_requires_it_needs_a_key(
    scene: Scene, capsys: pytest.CaptureFixture[str], no_sender: list[None]
) -> None:
    path = attesting(scene(*GOOD, platform="emulated-snp"), AWAY, launch_record="required")
    assert main(["launch", str(path), "--quiet"]) != 0
    assert "cvm ledger --host-key" in capsys.readouterr().err


def test_off_sends_nothing(
    scene: Scene, state: Path, capsys: pytest.CaptureFixture[str], no_sender: list[None]
) -> None:
    path = attesting(scene(*GOOD, platform="emulated-snp"), AWAY, launch_record="off")
    assert main(["launch", str(path), "--quiet"]) == 0
    assert (outbox.waiting(), no_sender) == ((), [])
    capsys.readouterr()


def test_what_is_acknowledged_is_not_sent_again_and_what_is_refused_does_not_stop_the_rest(state: Path) -> None:
    for vm in ("a", "b", "c"):
        outbox.keep(vm, statement(vm), AWAY, CA)
    asked: list[str] = []

    def tell(url: str, ca: bytes, envelope: Any, seconds: float) -> int:
        asked.append(url)
        if len(asked) == 2:
            raise ServiceRefused("malformed", code="service.launch-refused")
        return len(asked)

    report = send_waiting(tell=tell)
    assert [(entry.vm, entry.record) for entry in report.sent] == [("a", 1), ("c", 3)]
    assert [item.statement.vm for item in report.left] == ["b"]
    assert [entry.vm for entry in send_waiting(tell=tell).sent] == ["b"]
    assert outbox.waiting() == ()
    assert [entry.record for entry in outbox.acknowledged("b")] == [4]


@pytest.mark.parametrize(
    ("error", "tries"),
    [(ServiceUnavailable("away"), 4), (ServiceRefused("who?", code="service.host-refused"), 1)],
)
def test_a_service_that_is_away_is_asked_once_for_all_and_again_later_one_that_refuses_only_once(
    state: Path, error: CvmError, tries: int
) -> None:
    for vm in ("a", "b"):
        outbox.keep(vm, statement(vm), AWAY, CA)
    asked: list[float] = []

    def tell(url: str, ca: bytes, envelope: Any, seconds: float) -> int:
        asked.append(seconds)
        raise error

    slept: list[float] = []
    report = try_for_a_while(lambda: send_waiting(tell=tell), (1.0, 2.0, 3.0), slept.append)
    assert (len(asked), len(slept), len(report.left)) == (tries, tries - 1, 2)


def test_a_statement_goes_only_where_its_vm_file_says(state: Path) -> None:
    outbox.keep("a", statement("a"), AWAY, CA)
    outbox.keep("b", statement("b"), None, None)
    told: list[str] = []

    def tell(url: str, ca: bytes, envelope: Any, seconds: float) -> int:
        told.append(url)
        return 1

    assert [item.error.code for item in send_waiting(tell=tell).left] == ["service.none"]
    assert send_waiting(Destination("https://other", CA), tell).left == ()
    assert told == [AWAY, "https://other"]


def test_a_crash_between_acknowledgement_and_removal_sends_it_again_and_loses_nothing(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.keep("a", statement("a"), AWAY, CA)
    with monkeypatch.context() as crash, pytest.raises(KeyboardInterrupt):
        crash.setattr("launcher.io.outbox.os.unlink", partial(_stop, os.unlink))
        send_waiting(tell=lambda *_: 7)
    assert [entry.record for entry in outbox.acknowledged("a")] == [7]
    assert [entry.record for entry in send_waiting(tell=lambda *_: 7).sent] == [7]
    assert outbox.waiting() == ()


def _stop(unlink: Callable[[str], None], path: str) -> None:
    """At the statement; files beside those that are written begin with a dot."""
    if not Path(path).name.startswith("."):
        raise KeyboardInterrupt
    unlink(path)


def test_two_senders_do_not_work_at_once(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "LOCK_SECONDS", 0.1)
    with outbox.alone(1), pytest.raises(CvmError, match="being sent already"):
        send_waiting(tell=lambda *_: 1)


def test_a_full_folder_refuses_more_and_says_how_to_empty_it(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_WAITING", 1)
    outbox.keep("a", statement("a"), None, None)
    with pytest.raises(CvmError, match="1 statements wait"):
        outbox.keep("b", statement("b"), None, None)


@pytest.mark.parametrize("words", [["--send", "http://kbs"], ["--send", "https://kbs"], ["--send", "--ca", "x.pem"]])
def test_a_service_without_https_or_authority_is_refused(
    state: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ledger", *words]) == 3
    assert "want https://host:port and --ca PEM" in capsys.readouterr().err
