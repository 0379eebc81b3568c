"""`ct-assets receive`: the storage SCP (PS3.4 annex B) of a platform, on loopback unless said twice.

Belongs here: who may send what, the answers, the service's beginning and end. Files are in `spool`, batches
in `settling`. Log lines tell opaque names, codes and counts; nothing that came over the network.
"""

import logging
import signal
import ssl
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, _config, evt

from ct_assets import progress
from ct_assets.errors import UsageError
from ct_assets.intake.network import transport
from ct_assets.intake.network.objects import (
    CutOffObjectError,
    RefusedObjectError,
    file_head,
    identify,
    opaque,
)
from ct_assets.intake.network.settling import Settler
from ct_assets.intake.network.spool import Arriving, NotStoredError, Spool
from ct_assets.layout import Layout
from ct_assets.settings.receive import ReceiveSettings

if TYPE_CHECKING:
    from pynetdicom.association import Association

    from ct_assets.identity.key import SecretKey

SUCCESS = 0x0000
STATUS = {
    "object_not_stored": 0xA700,
    "object_not_as_announced": 0xA900,
    "object_unreadable": 0xC000,
    "object_cut_off": 0xC000,
    "object_uid_invalid": 0x0117,
    "object_class_not_supported": 0x0122,
    "object_context_not_accepted": 0x0122,
}
"""Status codes of C-STORE (PS3.4 table B.2-1, PS3.7 9.1.1.1.9) by reason code."""

SECONDS_BETWEEN_LOOKS = 0.5
ACSE_SECONDS = 30


class Receiver:
    """The running service; `start` to `stop`, or `serve` for a command."""

    def __init__(
        self,
        settings: ReceiveSettings,
        layout: Layout,
        key: "SecretKey | None",
        handed_over: Callable[[], object] = lambda: None,
    ) -> None:
        """`handed_over` is called when batches have come into the inbox, until it returns without an error."""
        self.settings, self.layout, self.key = settings, layout, key
        self._handed_over, self._untold = handed_over, True
        self.spool = Spool(layout, settings.keep_free_mb * 1_000_000)
        self.settler = Settler(
            self.spool,
            layout,
            key,
            quiet_seconds=settings.quiet_seconds,
            report_seconds=settings.report_seconds,
        )
        self._counts: dict[str, Counter[str]] = {}
        self._ending = threading.Event()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Take up what an earlier receiver left, then listen. Raises `UsageError` where that is refused."""
        context = self._tls()
        self.layout.make_restricted()
        self._lock = self.spool.hold(self.settler.delivered_before)
        for batch in self.settler.resume():
            progress.say(f"batch {batch}: its hand-over had been interrupted and is finished now")
        try:
            self._server = transport.Server(
                self._application_entity(),
                (self.settings.host, self.settings.port),
                context,
                [
                    (evt.EVT_C_STORE, self._store),
                    (evt.EVT_C_ECHO, lambda _: SUCCESS),
                    (evt.EVT_REJECTED, self._rejected),
                ],
                begin=self._begin,
                refused=self._count_refused,
                ended=self._ended,
            )
        except OSError as error:
            self._lock.release()
            raise UsageError(
                f"receive.host {self.settings.host}, port {self.settings.port}: cannot listen ({error.strerror})"
            ) from None
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True),
            threading.Thread(target=self._settle, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop listening, end what is under way as broken off, and hand over what is whole."""
        self._ending.set()
        self._server.shutdown()
        for association in self._server.active_associations:
            association.abort()
        for thread in self._threads:
            thread.join(10)
        self._look()
        self._lock.release()

    def serve(self) -> None:
        """Run until interrupted or terminated."""
        self.start()
        settings = self.settings
        progress.say(
            f"receiving as {settings.ae_title} on {settings.host}:{self.port}"
            f"{' with TLS' if settings.tls else ''} from {', '.join(settings.senders)}; stop with Ctrl-C"
        )
        stopped = threading.Event()

        def stop(_signal: int, _frame: FrameType | None) -> None:
            stopped.set()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        stopped.wait()
        progress.say("stopping")
        self.stop()

    def _application_entity(self) -> AE:
        entity = AE(ae_title=self.settings.ae_title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(self.settings.senders)
        entity.maximum_associations = self.settings.associations
        entity.maximum_pdu_size = transport.MAXIMUM_PDU_BYTES
        entity.network_timeout = self.settings.silence_seconds
        entity.dimse_timeout = self.settings.silence_seconds
        entity.acse_timeout = ACSE_SECONDS
        entity.add_supported_context(transport.VERIFICATION)
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), AllTransferSyntaxes)
        return entity

    def _tls(self) -> ssl.SSLContext | None:
        tls = self.settings.tls
        if tls is None:
            return None
        try:
            return transport.tls_context(str(tls.certificate), str(tls.private_key), str(tls.client_ca))
        except OSError as error:
            raise UsageError(
                f"receive.tls: certificate, key or authority cannot be used ({error.strerror or error.args[-1]})"
            ) from None

    def _begin(self, association: "Association", context: int, sop_class: str, sop_instance: str) -> Arriving:
        syntax = association._accepted_cx[context].transfer_syntax[0]
        return self.spool.begin(file_head(sop_class, sop_instance, str(syntax)))

    def _store(self, event: evt.Event) -> int:
        """Answer a C-STORE: success only when the object is on disk under its own name."""
        request: Any = event.request
        name = cast(transport.StreamingProvider, event.assoc.dimse).name
        sop_class, sop_instance = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
        arrived = request.DataSet
        try:
            if not isinstance(arrived, Arriving):
                raise RefusedObjectError("object_unreadable")
            digest = arrived.flush_to_disk()
            identity = identify(arrived.path, sop_class, sop_instance, self.key)
            is_new = self.spool.keep(name, identity, digest, arrived.path)
        except CutOffObjectError as error:
            self.spool.refuse(name, opaque(self.key, "instance", sop_instance))
            return self._refuse(name, arrived, error.code)
        except RefusedObjectError as error:
            return self._refuse(name, arrived, error.code)
        except (NotStoredError, OSError):
            self.spool.refuse(name, opaque(self.key, "instance", sop_instance))
            return self._refuse(name, arrived, "object_not_stored")
        self._count(name, "stored" if is_new else "equal_object_again")
        return SUCCESS

    def _refuse(self, name: str, arrived: Any, code: str) -> int:
        if isinstance(arrived, Arriving):
            arrived.discard()
        return self._count_refused(name, code)

    def _count_refused(self, name: str, code: str) -> int:
        self._count(name, code)
        return STATUS[code]

    def _count(self, name: str, what: str) -> None:
        self._counts.setdefault(name, Counter())[what] += 1

    def _ended(self, association: "Association") -> None:
        """Note how an association ended, and tell what it brought."""
        provider = association.dimse
        if not isinstance(provider, transport.StreamingProvider):
            return
        under_way = provider.under_way()
        released = association.is_released
        self.spool.end(
            provider.name, released=released, under_way=under_way and opaque(self.key, "instance", under_way)
        )
        if counts := self._counts.pop(provider.name, None):
            how = "released" if released else "broken off"
            told = ", ".join(f"{count} {code}" for code, count in sorted(counts.items()))
            progress.say(f"association {provider.name} {how}: {told}")

    def _rejected(self, _: evt.Event) -> None:
        progress.say(
            "an association was rejected: its AE titles are not those of the settings, or too many at once"
        )

    def _settle(self) -> None:
        while not self._ending.wait(SECONDS_BETWEEN_LOOKS):
            self._look()

    def _look(self) -> None:
        """Hand over what is whole. What fails (a full disk, a store away) is tried again at the next look."""
        try:
            self._untold |= bool(self.settler.settle())
            if self._untold:
                self._handed_over()
                self._untold = False
        except UsageError as error:
            progress.say(str(error))
        except Exception as error:
            progress.say(f"handing over waits: {type(error).__name__}")


def receive(
    settings: ReceiveSettings,
    layout: Layout,
    key: "SecretKey | None",
    *,
    public: bool,
    handed_over: Callable[[], object] = lambda: None,
) -> None:
    """Run the receiver until it is stopped; `handed_over` is called after batches came into the inbox.

    Raises `UsageError` where no sender is named, the address is public and was not said again, or the
    address, the certificates or the data root cannot be used.
    """
    refuse_unsafe(settings, public=public)
    silence_library()
    Receiver(settings, layout, key, handed_over).serve()


def refuse_unsafe(settings: ReceiveSettings, *, public: bool) -> None:
    """Refuse settings under which anybody could send. Raises `UsageError`."""
    if not settings.senders:
        raise UsageError("receive.senders: name the calling AE titles that may send; nobody else is let in")
    if settings.is_public and not public:
        raise UsageError(
            f"receive.host {settings.host}: others than this machine can reach it; if that is meant, say so "
            "again with --public (and set receive.tls, unless the network is protected otherwise)"
        )


def silence_library() -> None:
    """Keep the libraries' own log lines inside: they quote what came over the network."""
    _config.LOG_HANDLER_LEVEL = "none"
    for name in ("pynetdicom", "pydicom"):
        logging.getLogger(name).disabled = True
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore")
    threading.excepthook = lambda failed: progress.say(f"a connection failed: {failed.exc_type.__name__}")
