"""The channel of ``cvm exec``, both real ends on one socket, and what each side does when one thing is not as it must be."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from attest.attester.errors import Refused
from attest.attester.exec_running import Command, start
from attest.attester.exec_server import ExecServer, Port
from attest.attester.exec_session import Request, Session, parse_request
from attest.attester.jwe import GuestKey
from launcher.core.exec_token import TokenMalformed, TokenUntrusted, revoked_ids, trusted_point
from launcher.io import exec_client
from launcher.io.exec_client import ExecFailed, ExecRefused, Exit, Streams, Window, handshake, parse_exit, run_command
from policy.exec_channel import (
    ANSWER,
    AUTH,
    DATA,
    EXIT,
    HELLO,
    MAX_FRAME,
    NONCE,
    POINT,
    REFUSAL,
    REQUEST,
    STDIN,
    STDOUT,
    Ephemeral,
    ExecMalformed,
    Message,
    Sealed,
    Stream,
    check,
    message,
    pack_size,
    parse_hello,
    public_point,
    session_keys,
    sign,
    transcript,
    unpack_size,
)
from tests.until import until

DIGEST = "ab" * 48
NOW = 1_800_000_000
SERVICE = ec.generate_private_key(ec.SECP256R1())
OPERATOR, STRANGER = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()


def raw(key: ed25519.Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def jwks() -> dict[str, Any]:
    key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(SERVICE.public_key()))
    return {"keys": [{**key, "kid": "one", "alg": "ES256"}]}


def claims(guest: GuestKey) -> dict[str, Any]:
    evidence = {"runtime_data_claims": {"tee-pubkey": guest.jwk()}, "snp": {"measurement": DIGEST}}
    module = {"ear.status": "affirming", "ear.veraison.annotated-evidence": evidence}
    return {"nbf": NOW, "exp": NOW + 300, "jti": "1" * 32, "cvm.emulated": True, "submods": {"cpu0": module}}


def token(payload: dict[str, Any], key: Any = SERVICE, kid: str = "one") -> str:
    return jwt.encode(payload, key, algorithm="ES256", headers={"kid": kid})


def trust(text: str, **other: Any) -> bytes:
    settings: dict[str, Any] = {"now": NOW + 1.0, "launch_digest": DIGEST, "emulated": True} | other
    return trusted_point(text, jwks(), settings.pop("revoked", frozenset()), **settings)


# What an operator accepts of a token ---------------------------------------------------------------------------------


def test_a_token_that_stands_gives_the_guests_key_in_either_dialect() -> None:
    guest = GuestKey()
    payload = claims(guest)
    point = trust(token(payload))
    module = payload["submods"]["cpu0"]
    other = {"ear_status": "affirming", "ear_veraison_annotated_evidence": module["ear.veraison.annotated-evidence"]}
    assert trust(token(payload | {"submods": {"cpu0": other}})) == point
    fresh = Ephemeral()
    assert guest.agree(fresh.point) == fresh.agree(point)


def status(value: str) -> Callable[[dict[str, Any]], None]:
    return lambda payload: payload["submods"]["cpu0"].update({"ear.status": value})


@pytest.mark.parametrize(
    ("change", "settings", "problem"),
    [
        (status("warning"), {}, "the service says 'warning'"),
        (status("contraindicated"), {}, "the service says 'contraindicated'"),
        (lambda payload: payload.update(exp=NOW), {}, "not valid now"),
        (lambda payload: payload.update(nbf=NOW + 120), {}, "not valid now"),
        (lambda payload: payload.update({"cvm.emulated": False}), {}, "emulated chip"),
        (lambda payload: payload.update({"cvm.emulated": 1}), {}, "emulated chip"),
        (lambda payload: None, {"emulated": False}, "emulated chip"),
        (lambda payload: None, {"launch_digest": "cd" * 48}, "another guest"),
        (lambda payload: None, {"launch_digest": None}, "another guest"),
        (lambda payload: None, {"revoked": frozenset({"1" * 32})}, "revoked"),
    ],
)
def test_a_token_that_does_not_stand_is_refused_by_what_is_wrong(
    change: Callable[[dict[str, Any]], None], settings: dict[str, Any], problem: str
) -> None:
    payload = claims(GuestKey())
    change(payload)
    with pytest.raises(TokenUntrusted, match=problem):
        trust(token(payload), **settings)


def test_a_token_signed_by_somebody_else_is_refused() -> None:
    payload = claims(GuestKey())
    other = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(TokenUntrusted, match="signature is not the service's"):
        trust(token(payload, other))
    with pytest.raises(TokenUntrusted, match="a key the service does not have"):
        trust(token(payload, kid="two"))
    head, _, signature = token(payload).split(".")
    with pytest.raises(TokenUntrusted, match="signature is not the service's"):
        trust(".".join((head, token(claims(GuestKey())).split(".")[1], signature)))


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_a_token_chooses_no_algorithm(algorithm: str) -> None:
    key = "k" * 32 if algorithm == "HS256" else ""
    text = jwt.encode(claims(GuestKey()), key, algorithm, headers={"kid": "one"})
    with pytest.raises(TokenUntrusted, match="algorithm"):
        trust(text)


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c", "é.b.c", "x" * 70_000])
def test_what_is_no_token_is_malformed(text: str) -> None:
    with pytest.raises(TokenMalformed):
        trust(text)


def test_a_revocation_list_that_is_none_is_not_taken_for_an_empty_one() -> None:
    assert revoked_ids({"revoked": [{"jti": "1", "exp": 2}]}) == {"1"}
    wrong: list[object] = [{}, [], {"revoked": {}}, {"revoked": ["1"]}]
    for document in wrong:
        with pytest.raises(TokenMalformed, match="revocation list"):
            revoked_ids(document)


# The guest's state machine -------------------------------------------------------------------------------------------


@dataclass
class Operator:
    """An operator by hand: every value of the handshake can be another one."""

    key: ed25519.Ed25519PrivateKey = OPERATOR
    fresh: Ephemeral = field(default_factory=Ephemeral)
    nonce: bytes = bytes(NONCE)

    @property
    def hello(self) -> bytes:
        return self.fresh.point + self.nonce + raw(self.key)

    def opened(self, session: Session) -> tuple[Sealed, bytes]:
        """The session's channel and transcript after a good hello."""
        (answer,) = Stream(ANSWER).feed(session.take(Message(HELLO, self.hello)))
        digest = transcript(self.hello, answer.body)
        guest = trust(answer.body[NONCE + POINT :].decode())
        keys = session_keys(self.fresh.agree(guest), self.fresh.agree(answer.body[NONCE : NONCE + POINT]), digest)
        return Sealed(*keys), digest


def guest_session(guest: GuestKey | None = None) -> Session:
    key = guest or GuestKey()
    return Session((raw(OPERATOR),), lambda: (token(claims(key)), key), Ephemeral)


def sealed(channel: Sealed, kind: int, data: bytes = b"") -> Message:
    (one,) = Stream(DATA).feed(channel.seal(kind, data))
    return one


def test_whoever_holds_a_tokens_key_answers_as_the_guest_so_programs_must_not_get_one() -> None:
    """Why `cvm.exec` excludes ``token`` and ``evidence`` of `cvm.api`: with what ``GET /aa/token`` gives a program, a host
    outside the guest leads the whole handshake and reads the request. Nothing in a token says what it is for.
    """
    inside = GuestKey()
    given = {"token": token(claims(inside)), "tee_keypair": inside.pem()}
    stolen = serialization.load_pem_private_key(given["tee_keypair"], None)

    class Host:
        def agree(self, point: bytes) -> bytes:
            return stolen.exchange(ec.ECDH(), public_point(point))  # type: ignore[union-attr,call-arg]

    session = Session((raw(OPERATOR),), lambda: (given["token"], Host()), Ephemeral)
    channel, digest = Operator().opened(session)
    session.take(sealed(channel, AUTH, sign(OPERATOR, digest)))
    session.take(sealed(channel, REQUEST, REQUESTED))
    assert session.ready is not None and session.ready.argv == ("/bin/true",)


REQUESTED = json.dumps({"argv": ["/bin/true"], "timeout": 5}).encode()


def test_a_request_is_taken_after_the_operators_proof() -> None:
    session = guest_session()
    channel, digest = Operator().opened(session)
    session.take(sealed(channel, AUTH, sign(OPERATOR, digest)))
    session.take(sealed(channel, REQUEST, REQUESTED))
    assert session.ready is not None and session.ready.argv == ("/bin/true",)


def test_an_operator_the_command_line_does_not_name_is_refused_before_any_token_leaves() -> None:
    answer = guest_session().take(Message(HELLO, Operator(key=STRANGER).hello))
    assert answer.startswith(REFUSAL) and b"does not name that operator" in answer and b"eyJ" not in answer


def test_a_guest_the_service_does_not_accept_says_so_and_runs_nothing() -> None:
    def refused() -> Any:
        raise Refused("attest: measurement differs")

    session = Session((raw(OPERATOR),), refused, Ephemeral)
    assert b"does not accept this guest (any more): attest: measurement differs" in session.take(
        Message(HELLO, Operator().hello)
    )
    assert session.channel is None


def test_a_listed_public_key_without_its_private_half_opens_nothing() -> None:
    session = guest_session()
    channel, digest = Operator().opened(session)
    with pytest.raises(ExecMalformed, match="signature"):
        session.take(sealed(channel, AUTH, sign(STRANGER, digest)))
    assert session.ready is None


def test_the_proof_of_another_session_opens_nothing() -> None:
    """A host that recorded one session replays it: the guest's fresh point makes another transcript."""
    session, operator = guest_session(), Operator()
    _, digest = operator.opened(session)
    Operator().opened(session)
    channel, _ = operator.opened(session)
    with pytest.raises(ExecMalformed, match="signature"):
        session.take(sealed(channel, AUTH, sign(OPERATOR, digest)))


def test_recorded_frames_of_a_session_mean_nothing_in_the_next() -> None:
    session, operator = guest_session(), Operator()
    channel, digest = operator.opened(session)
    recorded = sealed(channel, AUTH, sign(OPERATOR, digest))
    session.take(recorded)
    Operator().opened(session)
    session.take(Message(HELLO, operator.hello))
    with pytest.raises(ExecMalformed, match="not the next one"):
        session.take(recorded)


def test_a_signature_over_the_bare_hash_is_no_proof() -> None:
    with pytest.raises(ExecMalformed, match="signature"):
        check(raw(OPERATOR), OPERATOR.sign(bytes(32)), bytes(32))


@pytest.mark.parametrize("kind", [REQUEST, STDIN, EXIT])
def test_nothing_comes_before_the_proof(kind: int) -> None:
    session = guest_session()
    channel, _ = Operator().opened(session)
    with pytest.raises(ExecMalformed, match="before the operator's proof"):
        session.take(sealed(channel, kind, REQUESTED))
    assert session.ready is None


def test_a_frame_before_the_hello_is_refused() -> None:
    with pytest.raises(ExecMalformed, match="before the hello"):
        guest_session().take(Message(DATA, bytes(40)))


def test_a_second_request_in_one_session_is_refused() -> None:
    session = guest_session()
    channel, digest = Operator().opened(session)
    session.take(sealed(channel, AUTH, sign(OPERATOR, digest)))
    session.take(sealed(channel, REQUEST, REQUESTED))
    with pytest.raises(ExecMalformed, match="frame kind"):
        session.take(sealed(channel, REQUEST, REQUESTED))


def test_a_new_hello_leaves_nothing_of_the_session_before() -> None:
    session = guest_session()
    channel, digest = Operator().opened(session)
    session.take(sealed(channel, AUTH, sign(OPERATOR, digest)))
    other, _ = Operator().opened(session)
    with pytest.raises(ExecMalformed, match="before the operator's proof"):
        session.take(sealed(other, REQUEST, REQUESTED))


def test_a_hello_said_again_gets_the_same_answer_and_disturbs_nothing() -> None:
    """An operator repeats it when the guest, attesting anew, takes its time."""
    session, operator = guest_session(), Operator()
    channel, digest = operator.opened(session)
    (again,) = Stream(ANSWER).feed(session.take(Message(HELLO, operator.hello)))
    assert transcript(operator.hello, again.body) == digest
    session.take(sealed(channel, AUTH, sign(OPERATOR, digest)))
    assert session.take(Message(HELLO, operator.hello)) == b""
    session.take(sealed(channel, REQUEST, REQUESTED))
    assert session.ready is not None


@pytest.mark.parametrize("size", [0, POINT + NONCE + 31, POINT + NONCE + 33])
def test_a_hello_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ExecMalformed, match="hello of"):
        parse_hello(bytes(size))


def test_a_point_that_is_not_on_the_curve_is_refused() -> None:
    body = b"\4" + bytes(64) + bytes(NONCE) + raw(OPERATOR)
    with pytest.raises(ExecMalformed, match="no point on P-256"):
        guest_session().take(Message(HELLO, body))


@pytest.mark.parametrize(
    "request_body",
    [
        {"argv": ["a"]}, {"argv": ["a"], "timeout": 1, "cwd": "/"}, {"argv": [], "timeout": 1}, {"argv": "a", "timeout": 1},
        {"argv": [""], "timeout": 1}, {"argv": ["a\0"], "timeout": 1}, {"argv": [1], "timeout": 1},
        {"argv": ["a"], "timeout": 0}, {"argv": ["a"], "timeout": True}, {"argv": ["a"], "timeout": 90_000},
        {"argv": ["a"] * 257, "timeout": 1}, {"argv": ["a" * 40_000], "timeout": 1}, [],
    ],
)  # fmt: skip
def test_a_request_that_is_not_exactly_one_is_refused(request_body: object) -> None:
    with pytest.raises(ExecMalformed, match="exec request"):
        parse_request(json.dumps(request_body).encode())


# Frames ---------------------------------------------------------------------------------------------------------------


def pair() -> tuple[Sealed, Sealed]:
    one, other = bytes(32), bytes(31) + b"\1"
    return Sealed(one, other), Sealed(other, one)


def bodies(channel: Sealed, count: int) -> list[bytes]:
    return [sealed(channel, STDOUT, bytes([number])).body for number in range(count)]


@pytest.mark.parametrize("order", [[1], [0, 0], [0, 2]], ids=["first left out", "repeated", "one left out"])
def test_frames_come_once_and_in_order(order: list[int]) -> None:
    sender, receiver = pair()
    frames = bodies(sender, 3)
    with pytest.raises(ExecMalformed, match="not the next one"):
        for number in order:
            receiver.open(frames[number])


def test_a_frame_sent_back_to_its_sender_is_refused() -> None:
    sender, _ = pair()
    with pytest.raises(ExecMalformed, match="not the next one"):
        sender.open(bodies(sender, 1)[0])


def test_a_frame_with_one_bit_changed_is_refused() -> None:
    sender, receiver = pair()
    body = bytearray(bodies(sender, 1)[0])
    body[0] ^= 1
    with pytest.raises(ExecMalformed, match="not the next one"):
        receiver.open(bytes(body))


def test_a_frame_of_no_kind_is_refused() -> None:
    sender, receiver = pair()
    with pytest.raises(ExecMalformed, match="unknown kind"):
        receiver.open(sealed(sender, 99).body)


def test_a_message_that_says_it_is_too_long_is_refused_and_never_kept() -> None:
    with pytest.raises(ExecMalformed, match="want at most"):
        Stream(DATA).feed(DATA + (MAX_FRAME + 1).to_bytes(4, "big"))
    with pytest.raises(ExecMalformed, match="want at most"):
        message(DATA, bytes(MAX_FRAME + 1))


def test_the_rest_of_an_earlier_message_is_skipped_also_in_pieces() -> None:
    stream = Stream(HELLO, DATA)
    found = []
    for byte in b"rest of something" + DATA[:3] + message(HELLO, b"body") + message(DATA, b""):
        found += stream.feed(bytes((byte,)))
    assert found == [Message(HELLO, b"body"), Message(DATA, b"")]


@pytest.mark.parametrize("data", [b"{}", b'{"code":1}', b'{"code":true,"timed_out":false}', b'{"code":300,"timed_out":false}',
                                  b'{"code":0,"timed_out":0}', b"x"])  # fmt: skip
def test_an_exit_that_is_not_exactly_one_is_refused(data: bytes) -> None:
    with pytest.raises(ExecMalformed, match="exec exit"):
        parse_exit(data)


# Both ends, for real ------------------------------------------------------------------------------------------------


@dataclass
class Ends:
    """The operator's socket, and the guest's server behind it."""

    client: socket.socket
    guest: GuestKey
    said: list[str]
    shown: dict[str, bytes] = field(default_factory=lambda: {"out": b"", "err": b""})

    def run(
        self, *argv: str, timeout: int = 10, stdin: int | None = None, window: Window | None = None,
        seen: Callable[[bytes], object] = lambda data: None,
    ) -> Exit:  # fmt: skip
        channel = handshake(self.client, OPERATOR, trust)

        def output(data: bytes) -> None:
            self._show("out", data)
            seen(self.shown["out"])

        streams = Streams(stdin, output, lambda data: self._show("err", data), window)
        return run_command(self.client, channel, list(argv), timeout, streams)

    def _show(self, where: str, data: bytes) -> None:
        self.shown[where] += data


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = socket.socketpair()
    guest, stop, said = GuestKey(), threading.Event(), list[str]()
    theirs.setblocking(False)
    server = ExecServer(Port(theirs.fileno()), (raw(OPERATOR),), lambda: (token(claims(guest)), guest), said.append)
    thread = threading.Thread(target=server.serve, args=(stop.is_set,))
    thread.start()
    with ours, theirs:
        yield Ends(ours, guest, said)
        stop.set()
        ours.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change its root, as the guest's agent does")
def test_commands_run_inside_the_root_file_system_and_not_before_it_is_ready(tmp_path: Path) -> None:
    request = Request(("/bin/cat", "/word"), 5.0, None)
    with pytest.raises(ValueError, match="root file system is not ready"):
        start(request, tmp_path)
    used = re.findall(r"(?:^|=> )\s*(/\S+)", subprocess.check_output(["ldd", "/bin/cat"], text=True), re.MULTILINE)
    for path in ("/bin/cat", *used):
        target = tmp_path / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (tmp_path / "word").write_text("inside")
    (tmp_path / "proc/self").mkdir(parents=True)
    assert _output_of(start(request, tmp_path)) == b"inside"
    with pytest.raises(FileNotFoundError):
        start(Request((sys.executable, "-c", ""), 5.0, None), tmp_path)


def _output_of(command: Command) -> bytes:
    assert command.process.wait(30) == 0
    found = b"".join(command.read(descriptor) for descriptor in command.outputs.copy())
    command.end()
    return found


def python(text: str) -> tuple[str, str, str]:
    return sys.executable, "-c", text


def test_output_errors_input_and_status_come_through_one_command_after_the_other(ends: Ends) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"x" * 5000)
    os.close(writing)
    text = "import sys; n = len(sys.stdin.read()); print('o' * n); print('e', file=sys.stderr); sys.exit(3)"
    assert ends.run(*python(text), stdin=reading) == Exit(3, False)
    os.close(reading)
    assert ends.shown == {"out": b"o" * 5000 + b"\n", "err": b"e\n"}
    assert ends.run("/nowhere") == Exit(127, False)
    assert ends.run("/bin/sh", "-c", "kill -9 $$") == Exit(-9, False)
    assert ends.said[0].startswith("exec: an operator runs") and "o" * 9 not in " ".join(ends.said)


ON_A_TERMINAL = """
import os, signal, sys
def size(*_): print("winch", os.get_terminal_size(0).lines, os.get_terminal_size(0).columns, flush=True)
signal.signal(signal.SIGWINCH, size)
found = os.get_terminal_size(2)
print(os.environ["TERM"], found.lines, found.columns, flush=True)
os.write(2, os.ttyname(1).encode() + b"\\n")
try:
    for line in iter(sys.stdin.readline, ""): print("got", line, end="", flush=True)
except KeyboardInterrupt:
    print("interrupted")
    sys.exit(5)
"""


def test_a_terminal_has_the_operators_size_and_kind_and_follows_the_window(ends: Ends) -> None:
    keys, typing = os.pipe()
    changed, change = os.pipe()
    sizes = iter(((24, 80), (50, 132)))
    began: list[str] = []
    window = Window("vt220", lambda: next(sizes), changed, lambda: began.append("raw"))
    steps = [(b"/dev/pts/", change, b"w"), (b"winch 50 132", typing, b"word\n"), (b"got word", typing, b"\x03")]

    def react(output: bytes) -> None:
        if steps and steps[0][0] in output:
            _, to, what = steps.pop(0)
            os.write(to, what)

    assert ends.run(*python(ON_A_TERMINAL), stdin=keys, window=window, seen=react) == Exit(5, False)
    assert began == ["raw"]
    shown = ends.shown["out"].decode()
    assert shown.startswith("vt220 24 80\r\n/dev/pts/")
    assert "got word\r\n" in shown and shown.endswith("interrupted\r\n")
    assert ends.shown["err"] == b""


def test_the_end_of_input_is_the_end_of_file_on_a_terminal_too(ends: Ends) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"line\n")
    os.close(writing)
    window = Window("xterm", lambda: (24, 80), os.pipe()[0])
    assert ends.run("/bin/cat", stdin=reading, window=window) == Exit(0, False)
    assert ends.shown["out"].count(b"line\r\n") == 2  # echoed, and said by cat


def test_a_terminals_command_that_is_not_there_says_so(ends: Ends) -> None:
    assert ends.run("/nowhere", window=Window("xterm", lambda: (24, 80), os.pipe()[0])) == Exit(127, False)
    assert b"No such file" in ends.shown["err"]


def test_a_window_of_any_size_is_sent_within_bounds_and_one_beyond_them_is_refused() -> None:
    assert unpack_size(pack_size(0, 70_000)) == (1, 4096)
    for wrong in (b"", b"\0\1\0", b"\0\0\0\1", b"\0\1\x10\1", b"\0\1\0\1\0"):
        with pytest.raises(ExecMalformed, match="want rows and columns"):
            unpack_size(wrong)


@pytest.mark.parametrize(
    "terminal",
    [None, {}, {"kind": "x", "rows": 1}, {"kind": "x", "rows": 1, "columns": 0}, {"kind": "x", "rows": True, "columns": 1},
     {"kind": "../x", "rows": 1, "columns": 1}, {"kind": "", "rows": 1, "columns": 1}, {"kind": "x", "rows": 4097, "columns": 1}],
)  # fmt: skip
def test_a_request_for_a_terminal_that_cannot_be_is_refused(terminal: object) -> None:
    with pytest.raises(ExecMalformed, match="exec request: terminal"):
        parse_request(json.dumps({"argv": ["x"], "timeout": 1, "terminal": terminal}).encode())


def test_a_command_ends_when_its_time_is_over_and_so_does_what_it_started(ends: Ends) -> None:
    assert ends.run("/bin/sh", "-c", "sleep 60 & echo $!; wait", timeout=1) == Exit(-9, True)
    child = int(ends.shown["out"])
    status = Path(f"/proc/{child}/stat")
    until(lambda: not status.exists() or " Z " in status.read_text(), "the command's child has ended")


def test_a_command_that_leaves_a_child_with_its_output_open_does_not_hold_the_session(ends: Ends) -> None:
    before = time.monotonic()
    assert ends.run("/bin/sh", "-c", "sleep 30 & echo done") == Exit(0, False)
    assert ends.shown["out"] == b"done\n"
    assert time.monotonic() - before < 20


def test_a_session_begun_while_a_command_runs_ends_that_command(ends: Ends) -> None:
    channel = handshake(ends.client, OPERATOR, trust)
    body = json.dumps({"argv": ["/bin/sleep", "60"], "timeout": 60}).encode()
    ends.client.sendall(channel.seal(REQUEST, body))
    assert ends.run("/bin/true") == Exit(0, False)


def test_the_rest_of_a_session_that_broke_off_does_not_disturb_the_next(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exec_client, "HELLO_SECONDS", 0.1)
    ends.client.sendall(message(DATA, bytes(2000))[:700])
    assert ends.run("/bin/true") == Exit(0, False)


def test_a_hello_right_behind_what_an_ended_session_still_sent_is_heard(ends: Ends) -> None:
    """A command that cannot be started ends before its input has come."""
    ends.client.sendall(message(DATA, bytes(40)))
    assert ends.run("/bin/true") == Exit(0, False)


def test_an_operator_hears_why_the_guest_refuses(ends: Ends) -> None:
    with pytest.raises(ExecRefused, match="does not name that operator's key"):
        handshake(ends.client, STRANGER, trust)


def test_a_guest_that_is_silent_or_another_is_an_error_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exec_client, "HANDSHAKE_SECONDS", 0.3)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(message(ANSWER, bytes(200)) + message(REFUSAL, bytes(NONCE) + b"not for this nonce"))
        with pytest.raises(ExecFailed, match="did not answer"):
            handshake(ours, OPERATOR, trust)


def test_a_host_that_answers_with_the_guests_token_but_not_its_key_gets_no_request(ends: Ends) -> None:
    """It can pass the token on; what it then seals, or the operator sealed, is closed to it."""
    operator = Operator()
    fresh = Ephemeral()
    answer = operator.nonce + fresh.point + token(claims(ends.guest)).encode()
    guest = trust(answer[NONCE + POINT :].decode())
    digest = transcript(operator.hello, answer)
    operators = Sealed(*session_keys(operator.fresh.agree(guest), operator.fresh.agree(fresh.point), digest))
    hosts_guess = fresh.agree(operator.fresh.point)
    hosts = Sealed(*reversed(session_keys(hosts_guess, hosts_guess, digest)))
    with pytest.raises(ExecMalformed, match="not the next one"):
        hosts.open(sealed(operators, AUTH, sign(OPERATOR, digest)).body)
    with pytest.raises(ExecMalformed, match="not the next one"):
        operators.open(sealed(hosts, EXIT, b'{"code":0,"timed_out":false}').body)


def test_a_session_without_an_exit_is_an_error_not_a_success() -> None:
    ours, theirs = socket.socketpair()
    operators, guests = pair()
    with ours:
        theirs.sendall(guests.seal(STDOUT, b"half"))
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ExecFailed, match="ended before the command"):
            run_command(ours, operators, ["/bin/true"], 1, Streams(None, lambda data: None, lambda data: None))
    theirs.close()
