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
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext

from ct_assets import progress
from ct_assets.intake.network.commands import (
    C_STORE_REQUEST,
    LONGEST_COMMAND_BYTES,
    Command,
    NoCommandError,
    refusal,
)
from ct_assets.intake.network.spool import Arriving

MAXIMUM_PDU_BYTES = 1 << 20
"""What this receiver offers as maximum PDU length (PS3.8 D.1); many senders stay below it by themselves."""
LONGEST_PDU_BYTES = MAXIMUM_PDU_BYTES + (64 << 10)
"""A PDU that says it is longer is an attack or an error: its association is ended before memory is taken."""

INVALID_PDU = "Evt19"
"""The state machine's event for what breaks the protocol (PS3.8 9.2): it sends A-ABORT."""
ASSOCIATE_REQUEST = 0x01
AE_TITLES = slice(10, 42)
"""Called and calling AE title in an A-ASSOCIATE-RQ PDU (PS3.8 table 9-11)."""
VERIFICATION = "1.2.840.10008.1.1"
"""The SOP class behind C-ECHO (PS3.4 A.4)."""

SECONDS_OF_WAITING = 0.005
"""So long a quiet connection is waited on before the library looks at its own queues again."""

Begin = Callable[[Association, int, str, str], Arriving]
"""Opens the file of an object: association, presentation context, SOP class and instance of the command."""


class StreamingProvider(DIMSEServiceProvider):
    """Assembles messages as its base does, but the data set of a C-STORE goes to a file as it comes.

    A request that cannot be taken is answered with a failure status once its data set has passed; the
    association goes on. What breaks the protocol ends it with A-ABORT (PS3.8 9.3.8).
    """

    def __init__(self, association: Association, server: "Server", name: str) -> None:
        super().__init__(association)
        self._server = server
        self.name = name
        """The association's own opaque name."""
        self._command, self._command_context = bytearray(), 0
        self._refused: tuple[int, Command, str] | None = None
        """Context, command and reason code of a request whose data set is stepped over."""
        self._is_over = False

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take one P-DATA primitive; see the base class."""
        # A PDU may hold the end of the command and the beginning of the data set: fed one by one, the
        # command is known when the data begin.
        for context, data in primitive.presentation_data_value_list:
            if self._is_over:
                return
            try:
                if data[0] & 1:
                    self._take_command(context, data)
                else:
                    self._take_data(context, data)
            except (
                Exception
            ):  # whatever a broken message does to the library: its sender learns that it is over
                self._is_over = True
                self.dul.event_queue.put(INVALID_PDU)

    def _take_command(self, context: int, data: bytes) -> None:
        """Collect the fragments of a command; the whole of it goes on, or is refused."""
        if self.message is not None or self._refused is not None:
            raise NoCommandError  # the data set of the last one has not ended
        if self._command and context != self._command_context:
            raise NoCommandError
        self._command_context = context
        self._command += memoryview(data)[1:]
        if len(self._command) > LONGEST_COMMAND_BYTES:
            raise NoCommandError
        if not data[0] & 2:
            return
        encoded, self._command = bytes(self._command), bytearray()
        command = Command.of(encoded)
        if command.field == C_STORE_REQUEST and (code := self._server.refusal(self.assoc, context, command)):
            self._refused = (context, command, code)
            if not command.has_data_set:
                self._answer_refused()
            return
        self._feed(context, b"\3" + encoded)

    def _take_data(self, context: int, data: bytes) -> None:
        is_last = bool(data[0] & 2)
        if self._refused is not None:
            if is_last:
                self._answer_refused()
            return
        message = self.message
        if message is None:
            raise NoCommandError  # a data set that no command announced
        if isinstance(message, C_STORE_RQ) and not isinstance(message.data_set, Arriving):
            command = message.command_set
            message.data_set = self._server.begin(
                self.assoc, context, str(command.AffectedSOPClassUID), str(command.AffectedSOPInstanceUID)
            )
        if isinstance(message.data_set, Arriving) and not is_last:
            message.data_set.write(memoryview(data)[1:])
            return
        self._feed(context, data)
        self._serve()

    def _feed(self, context: int, data: bytes) -> None:
        single = P_DATA()
        single.presentation_data_value_list = [cast(Any, [context, data])]  # it checks for lists
        super().receive_primitive(single)

    def _answer_refused(self) -> None:
        """Send the failure status of a refused request, without the UIDs that it was refused for."""
        assert self._refused is not None
        (context, command, code), self._refused = self._refused, None
        response = C_STORE()
        response.MessageID = response.MessageIDBeingRespondedTo = command.message_id
        response.Status = self._server.refused(self.name, code)
        self.send_msg(response, context)

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


class Provider(DULServiceProvider):
    """The upper layer, lenient in what can be meant in one way only, and never gone without a word."""

    def _decode_pdu(self, bytestream: bytearray) -> Any:
        if bytestream[0] == ASSOCIATE_REQUEST:
            # Blanks pad an AE title (PS3.8 9.3.2); some senders pad by NUL.
            bytestream[AE_TITLES] = bytes(bytestream[AE_TITLES]).replace(b"\0", b" ")
        return super()._decode_pdu(bytestream)

    def abort_at_once(self) -> None:
        """Send A-ABORT past the state machine, which a failure has left undefined, and end both threads."""
        abort = A_ABORT_RQ()
        abort.source, abort.reason_diagnostic = 0x02, 0x00
        if self.socket is not None:
            self.socket.send(abort.encode())
        self.assoc.is_aborted, self.assoc.is_established = True, False
        self.assoc._kill = self._kill_thread = True


class Machine(StateMachine):
    """The state machine of PS3.8 9.2; a failure inside it ends the association with A-ABORT."""

    def do_action(self, event: str) -> None:
        """Execute the action triggered by `event`; see the base class."""
        try:
            super().do_action(event)
        except Exception:
            cast(Provider, self.dul).abort_at_once()


class TooLongPduError(Exception):
    """A PDU longer than was offered. No `OSError`, which the library takes for a closed connection."""


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
        """Read `nr_bytes`, fewer where the peer has gone. Raises `TooLongPduError`."""
        if nr_bytes > LONGEST_PDU_BYTES:
            raise TooLongPduError
        if self.socket is None:
            raise OSError("closed")
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
        association.dimse = StreamingProvider(association, self.server, f"a{next(self.server.numbers)}")
        cast(Any, association.dul.socket).__class__ = BulkSocket
        cast(Any, association.dul).__class__ = Provider
        cast(Any, association.dul.state_machine).__class__ = Machine
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
        refused: Callable[[str, str], int],
        ended: Callable[[Association], None],
    ) -> None:
        """Listen on `address`.

        `begin` opens the file of an object, `refused` counts a refused one (association, reason code) and returns
        its status, `ended` is called at every association's end.
        """
        self.begin, self.refused, self.ended = begin, refused, ended
        self.numbers = itertools.count(1)
        contexts = Contexts(entity.supported_contexts)
        self._storage_classes = frozenset(str(one.abstract_syntax) for one in contexts) - {VERIFICATION}
        super().__init__(entity, address, entity.ae_title, contexts, context, handlers, Handler)

    def refusal(self, association: Association, context: int, command: Command) -> str | None:
        """Return why a C-STORE request cannot be taken; None where it can."""
        accepted = association._accepted_cx.get(context)
        context_class = None if accepted is None else str(accepted.abstract_syntax)
        return refusal(command, context_class, self._storage_classes)

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
