"""The proof of one record, to be checked by anybody with the log's public key.

The log's key is not here. A proof is made for the newest checkpoint that the service signed; a record it does not cover
yet has none, and the answer says how to get one.
"""

from __future__ import annotations

from flask import Response

from attest.audit.note import parse_note
from attest.broker.proof_file_make import make_proof_file
from attest.store import checkpoints
from attest.store.errors import NotFound
from attest.web.dashboard.house import House


def proof_download(house: House, number: int) -> Response:
    """The proof file as a download. Raises NotFound for a record that no signed checkpoint covers."""
    with house.database.read() as tx:
        point = checkpoints.newest(tx)
        if point is None or not 0 < number <= point.size:
            raise NotFound(
                f"proof of record {number}: no signed checkpoint covers it yet; `attest audit checkpoint` makes one"
            )
    data = make_proof_file(house.database, number, parse_note(point.note)).encode()
    response = Response(data, mimetype="application/json")
    response.headers["Content-Disposition"] = f'attachment; filename="record-{number}.proof.json"'
    return response
