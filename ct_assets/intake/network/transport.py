"""The network side in large pieces: whole PDUs at once, data sets to disk as they come, TLS per connection.

Belongs here: what the network library does byte by byte or in memory, done in bulk. Does not: what is taken
(`receiver`), where it goes (`spool`). pynetdicom keeps the protocol (PS3.8 state machine, negotiation,
DIMSE); here it is given a socket that reads one PDU in one call, and a data set that is a file.
"""

import itertools
import queue
import select
import socket
import socketserver
import ssl
from collections.abc import Callable
from typing import Any, cast

from pynetdicom import AE, transport
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext

from ct_assets import progress
from ct_assets.intake.network.spool import Arriving

MAXIMUM_PDU_BYTES = 1 << 20
"""What this receiver offers as maximum PDU length (PS3.8 D.1); many senders stay below it by themselves."""
LONGEST_PDU_BYTES = MAXIMUM_PDU_BYTES + (64 << 10)
"""A PDU that says it is longer is an attack or an error: its association is ended before memory is taken."""

SECONDS_OF_WAITING = 0.005
"""So long a quiet connection is waited on before the library looks at its own queues again."""

Begin = Callable[[Association, int, str, str], Arriving]
"""Opens the file of an object: association, presentation context, SOP class and instance of the command."""


class StreamingProvider(DIMSEServiceProvider):
    """Assembles messages as its base does, but the data set of a C-STORE goes to a file as it comes."""

    def __init__(self, association: Association, begin: Begin, name: str) -> None:
        super().__init__(association)
        self._begin = begin
        self.name = name
        """The association's own opaque name."""

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take one P-DATA primitive; see the base class."""
        # A PDU may hold the end of the command and the beginning of the data set: fed one by one, the
        # command is known when the data begin.
        for value in primitive.presentation_data_value_list:
            context, data = value
            if self.message is None:
                self.message = DIMSEMessage()
            message = self.message
            is_data = not data[0] & 1
            if is_data and isinstance(message, C_STORE_RQ) and not isinstance(message.data_set, Arriving):
                command = message.command_set
                message.data_set = self._begin(
                    self.assoc,
                    context,
                    str(command.AffectedSOPClassUID),
                    str(command.AffectedSOPInstanceUID),
                )
            if is_data and isinstance(message.data_set, Arriving) and not data[0] & 2:
                message.data_set.write(memoryview(data)[1:])
                continue
            single = P_DATA()
            single.presentation_data_value_list = [cast(Any, [context, data])]  # it checks for lists
            super().receive_primitive(single)
            if is_data:
                self._serve()

    def _serve(self) -> None:
        """Answer a C-STORE here, in the thread that reads: each hand-over to another one costs a nap of both."""
        try:
            context, request = self.msg_queue.get_nowait()
        except queue.Empty:
            return  # the association's own thread was quicker
        self.assoc._serve_request(cast(Any, request), cast(int, context))

    def under_way(self) -> str | None:
        """Return the SOP Instance UID that was just arriving, and remove what is there of it."""
        message = self.message
        if message is None or not isinstance(message.data_set, Arriving):
            return None
        message.data_set.discard()
        return str(message.command_set.AffectedSOPInstanceUID)


class BulkSocket(transport.AssociationSocket):
    """Reads a PDU in as few calls as the network allows, and wakes when something comes instead of napping."""

    @property
    def ready(self) -> bool:
        """Tell whether something can be read, now or within a moment."""
        if super().ready:
            return True
        opened = self.socket
        if opened is None:
            return False
        try:
            return bool(select.select([opened], [], [], SECONDS_OF_WAITING)[0])
        except (OSError, ValueError):
            return False  # closed meanwhile; the next look says so

    def recv(self, nr_bytes: int) -> bytearray:
        """Read `nr_bytes`, fewer where the peer has gone. Raises `OSError` for a PDU longer than was offered."""
        if nr_bytes > LONGEST_PDU_BYTES or self.socket is None:
            raise OSError("a PDU longer than the maximum that was negotiated")
        received = bytearray(nr_bytes)
        view, done = memoryview(received), 0
        while done < nr_bytes:
            taken = self.socket.recv_into(view[done:])
            if taken == 0:
                view.release()
                del received[done:]
                break
            done += taken
        return received


class Handler(transport.RequestHandler):
    """One connection: TLS first, then an association that reads in bulk."""

    server: "Server"
    _association: Association

    def handle(self) -> None:
        """Shake hands in this connection's own thread, so that a silent client holds up nobody else."""
        if isinstance(self.request, ssl.SSLSocket):
            try:
                self.request.do_handshake()
            except (OSError, ssl.SSLError):
                progress.say("a connection was refused: no TLS, or no certificate of a known authority")
                self.server.shutdown_request(self.request)
                return
        super().handle()
        # However it ends (released, aborted, cut off, a failure of the library), this comes after it.
        self._association.join()
        self.server.ended(self._association)

    def _create_association(self) -> Association:
        association = self._association = super()._create_association()
        association.dimse = StreamingProvider(association, self.server.begin, f"a{next(self.server.numbers)}")
        cast(Any, association.dul.socket).__class__ = BulkSocket
        association.dul._run_loop_delay = 0  # the socket waits instead
        return association


class Contexts(list[PresentationContext]):
    """What is taken, shared by all associations: they read it only, and a copy costs a fifth of a second."""

    def __deepcopy__(self, _: dict[int, Any]) -> list[PresentationContext]:
        return list(self)


class Server(transport.ThreadedAssociationServer):
    """Listens, and gives every connection a thread."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        entity: AE,
        address: tuple[str, int],
        context: ssl.SSLContext | None,
        handlers: list[Any],
        *,
        begin: Begin,
        ended: Callable[[Association], None],
    ) -> None:
        """Listen on `address`; `begin` opens the file of an object, `ended` is told of every association's end."""
        self.begin, self.ended = begin, ended
        self.numbers = itertools.count(1)
        contexts = Contexts(entity.supported_contexts)
        super().__init__(entity, address, entity.ae_title, contexts, context, handlers, Handler)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection; with TLS the handshake is left to its own thread."""
        accepted, address = cast(socket.socket, self.socket).accept()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.settimeout(self.ae.network_timeout)
        if self.ssl_context is not None:
            accepted = self.ssl_context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        return accepted, address

    def shutdown(self) -> None:
        """Stop accepting and close the socket."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()

    def handle_error(self, *_: Any) -> None:
        """Say that a connection failed; nothing of what it sent."""
        progress.say("a connection failed before its association was made")


def tls_context(certificate: str, private_key: str, client_ca: str) -> ssl.SSLContext:
    """Return a server context of TLS 1.2 or newer that wants a client certificate of the given authority.

    Raises `OSError` (of which `ssl.SSLError` is one) where a file cannot be read or the key does not fit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, private_key)
    context.load_verify_locations(client_ca)
    return context


__all__ = ["MAXIMUM_PDU_BYTES", "Server", "StreamingProvider", "tls_context"]
