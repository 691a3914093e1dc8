"""What the agent does beside the payload: secrets as files, the REST interface, attestation on a timer.

On the timer: accepted, and the files are written again with the values of now; refused, and the files are taken away
and nothing more is given until a later attestation is accepted; not reachable, and everything stays as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from attest.attester.cmdline import Orders
from attest.attester.errors import Refused, SecretFileFailed
from attest.attester.guest_api import PORT, GuestApi, serve
from attest.attester.keeper import Keeper
from attest.attester.secret_files import SecretFiles
from attest.attester.status import Status
from policy.errors import CvmError


class Resident:
    """Carries out ``orders`` that last. ``folder`` gives the place for secret files when there are any."""

    def __init__(self, orders: Orders, keeper: Keeper, folder: Callable[[], Path], status: Status) -> None:
        self._orders = orders
        self._keeper = keeper
        self._status = status
        self._files = SecretFiles(folder(), orders.secrets) if orders.secrets else None
        self._said = ""

    def start(self, evidence: Callable[[bytes], dict[str, object]], *, port: int = PORT) -> int:
        """Files, then the interface, then the timer; the port that is listened on, 0 for none. Raises CvmError."""
        self._write_files()
        listening = self._serve(evidence, port) if self._orders.api else 0
        if self._orders.reattest:
            threading.Thread(target=self._keep, name="re-attestation", daemon=True).start()
        return listening

    def renew(self) -> None:
        """Attest again, once, and draw the consequences. Raises nothing."""
        try:
            self._keeper.attest_again()
            self._write_files()
        except Refused as exc:
            if self._files is not None:
                self._files.remove()
            reasons = "; ".join(exc.reasons)
            self._say(f"attested again: REFUSED: {exc.message}" + (f" ({reasons})" if reasons else ""))
        except CvmError as exc:
            self._say(f"attesting again failed, will try later: {exc.message}")
        else:
            self._say("attested again: accepted")

    def _serve(self, evidence: Callable[[bytes], dict[str, object]], port: int) -> int:
        api = GuestApi(self._orders.api, self._keeper, evidence)
        try:
            server = serve(api, port=port)
        except OSError as exc:
            raise SecretFileFailed(f"cvm.api: 127.0.0.1:{port}: {exc.strerror}", code="guest.api") from None
        self._status.say(f"listening on 127.0.0.1:{server.server_address[1]} for {', '.join(self._orders.api)}")
        return int(server.server_address[1])

    def _write_files(self) -> None:
        if self._files is not None:
            self._files.write(self._keeper.resource)

    def _keep(self) -> None:
        pause = threading.Event()
        while not pause.wait(self._orders.reattest):
            self.renew()

    def _say(self, text: str) -> None:
        """What changed, once."""
        if text != self._said:
            self._said = text
            self._status.say(text)
