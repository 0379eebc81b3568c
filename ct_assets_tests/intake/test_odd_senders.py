"""Senders that do what the Standard forbids: one bad object, one answer, and the rest of its association is stored."""

import socket
import struct

import pytest
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from ct_assets.dicom import extent
from ct_assets.intake.network import receiver as network
from ct_assets.intake.network.commands import Command, NoCommandError
from ct_assets.layout import Layout
from ct_assets.settings.receive import ReceiveSettings
from ct_assets_tests.intake.senders import CALLED, SENDER, ct, delivered, wait_for

CT, IMPLICIT, CLOSED, ABORT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2", b"", b"\x07"


@pytest.fixture(scope="module")
def receiver(tmp_path_factory):
    """One receiver for all cases: it goes on whatever came before."""
    network.silence_library()
    patched = pytest.MonkeyPatch()
    patched.setattr(network, "SECONDS_BETWEEN_LOOKS", 0.03)
    settings = ReceiveSettings(senders=(SENDER,), quiet_seconds=0.1, keep_free_mb=0)
    layout = Layout(tmp_path_factory.mktemp("odd") / "data")
    one = network.Receiver(settings.model_copy(update={"port": 0}), layout, None)
    one.start()
    yield one
    one.stop()
    patched.undo()


def element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) & 1)
    return struct.pack("<HHL", 0, number, len(value)) + value


def store_command(
    instance: bytes | None, sop_class: bytes | None = CT.encode(), *, has_data: bool = True
) -> bytes:
    body = b"" if sop_class is None else element(2, sop_class)
    body += element(0x100, b"\1\0") + element(0x110, b"\7\0") + element(0x700, b"\0\0")
    body += element(0x800, b"\0\0" if has_data else b"\1\1")
    body += b"" if instance is None else element(0x1000, instance)
    return element(0, struct.pack("<L", len(body))) + body


def fragment(content: bytes, *, command: bool, last: bool = True, context: int = 1) -> bytes:
    value = struct.pack(">LBB", len(content) + 2, context, command | last << 1) + content
    return struct.pack(">BBL", 4, 0, len(value)) + value


def data_of(dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = True, True
    write_dataset(buffer, dataset)
    return buffer.getvalue()


class ByHand:
    """An association whose PDUs are written by hand (PS3.8 9.3)."""

    def __init__(self, port: int, padding: bytes = b" ") -> None:
        self.opened = socket.create_connection(("127.0.0.1", port), 10)
        proposed = self.part(0x30, CT.encode()) + self.part(0x40, IMPLICIT.encode())
        body = struct.pack(">HH", 1, 0) + CALLED.encode().ljust(16) + SENDER.encode().ljust(16, padding)
        body += (
            b"\0" * 32 + self.part(0x10, b"1.2.840.10008.3.1.1.1") + self.part(0x20, b"\1\0\0\0" + proposed)
        )
        body += self.part(0x50, self.part(0x51, struct.pack(">L", 16384)) + self.part(0x52, b"1.2.3"))
        self.opened.sendall(struct.pack(">BBL", 1, 0, len(body)) + body)
        self.accepted = self.answer()[:1] == b"\2"

    @staticmethod
    def part(kind: int, content: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(content)) + content

    def answer(self) -> bytes:
        """The next PDU; nothing where the connection was closed."""
        head = self.opened.recv(6, socket.MSG_WAITALL)
        body = self.opened.recv(struct.unpack(">L", head[2:])[0], socket.MSG_WAITALL) if head else b""
        return head + body

    def status(self) -> int | bytes:
        """The status of a response, or the PDU's type."""
        answer = self.answer()
        place = answer.find(struct.pack("<HHL", 0, 0x900, 2))
        return answer[:1] if place < 0 else struct.unpack_from("<H", answer, place + 8)[0]

    def store(self, command: bytes, data: bytes, context: int = 1) -> int | bytes:
        self.opened.sendall(fragment(command, command=True, context=context))
        self.opened.sendall(fragment(data, command=False, context=context))
        return self.status()

    def release(self) -> bytes:
        self.opened.sendall(struct.pack(">BBL", 5, 0, 4) + b"\0" * 4)
        answer = self.answer()[:1]
        self.opened.close()
        return answer


def sent(number: int, series: str):
    one = ct(number, series=series, StudyInstanceUID=f"1.2.9.{series}")
    return str(one.SOPInstanceUID).encode(), data_of(one)


BAD = {
    "uid_of_68_characters": (lambda uid, data: (store_command(b"1." + b"2" * 66), data), 1, 0x0117),
    "uid_of_70000_characters": (lambda uid, data: (store_command(b"1." + b"2" * 70000), data), 1, 0x0117),
    "uid_not_ascii": (lambda uid, data: (store_command(b"1.2.\xe4.3"), data), 1, 0x0117),
    "no_uid": (lambda uid, data: (store_command(None), data), 1, 0x0117),
    "empty_uid": (lambda uid, data: (store_command(b""), data), 1, 0x0117),
    "private_class": (lambda uid, data: (store_command(uid, b"1.2.999.5"), data), 1, 0x0122),
    "class_of_the_echo": (lambda uid, data: (store_command(uid, b"1.2.840.10008.1.1"), data), 1, 0x0122),
    "no_class": (lambda uid, data: (store_command(uid, None), data), 1, 0x0122),
    "class_not_ascii": (lambda uid, data: (store_command(uid, b"1.2.\xff"), data), 1, 0x0122),
    "unknown_context": (lambda uid, data: (store_command(uid), data), 7, 0x0122),
    "cut_in_the_pixels": (lambda uid, data: (store_command(uid), data[:-100]), 1, 0xC000),
    "cut_in_the_header": (lambda uid, data: (store_command(uid), data[:60]), 1, 0xC000),
    "no_data": (lambda uid, data: (store_command(uid), b""), 1, 0xC000),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_object_is_answered_and_the_rest_of_its_association_is_stored(receiver, name, capfd):
    make, context, expected = BAD[name]
    before = set(delivered(receiver.layout))
    peer = ByHand(receiver.port)
    first, bad, last = (sent(number, f"{list(BAD).index(name)}77") for number in (1, 2, 3))
    seen = [
        peer.store(store_command(first[0]), first[1]),
        peer.store(*make(*bad), context=context),
        peer.store(store_command(last[0]), last[1]),
    ]
    assert (seen, peer.release()) == ([0, expected, 0], b"\6")
    if name == "cut_in_the_pixels":  # its instance is waited for, as one is that was not stored
        again = ByHand(receiver.port)
        assert again.store(store_command(bad[0]), bad[1]) == 0
        again.release()
    wait_for(lambda: set(delivered(receiver.layout)) - before)
    said = capfd.readouterr()
    assert "1 object_" in said.out + said.err


@pytest.mark.parametrize(
    "pdus",
    [
        [fragment(b"\xff" * 40, command=True)],
        [fragment(b"", command=True)],
        [fragment(b"abc", command=False)],
        [fragment(store_command(b"1.2.3"), command=True), fragment(store_command(b"1.2.3"), command=True)],
        [fragment(store_command(b"1.2.3")[:20], command=True, last=False), fragment(b"", command=True, context=3)],
        [struct.pack(">BBL", 4, 0, 6) + struct.pack(">LBB", 5000, 1, 3)],
        [struct.pack(">BBL", 4, 0, 5) + struct.pack(">LB", 1, 1)],
        [struct.pack(">BBL", 9, 0, 0)],
        [struct.pack(">BBL", 4, 0, 0x7FFFFFFF)],
        [struct.pack(">BBL", 2, 0, 4) + b"\0" * 4],
    ],
    ids=["garbage", "empty_command", "data_first", "command_in_command", "other_context_within_a_command",
         "value_too_long", "value_without_header", "unknown_pdu", "pdu_of_2_gb", "answer_as_request"],
)  # fmt: skip
def test_what_breaks_the_protocol_is_answered_with_an_abort(receiver, pdus):
    peer = ByHand(receiver.port)
    peer.opened.sendall(b"".join(pdus))
    assert peer.answer()[:1] == ABORT
    assert ByHand(receiver.port).accepted


def test_an_ae_title_padded_by_nul_is_read(receiver):
    assert ByHand(receiver.port, padding=b"\0").accepted


def test_a_command_is_read_from_its_bytes():
    command = Command.of(store_command(b"1.2.3"))
    assert command == Command(1, 7, True, CT.encode(), b"1.2.3")
    assert not Command.of(store_command(b"1.2.3", has_data=False)).has_data_set
    for broken in (b"", b"\0" * 7, store_command(b"1.2.3")[:-1]):
        with pytest.raises(NoCommandError):
            Command.of(broken)


class TestExtent:
    """Where a data set ends, against its own bytes."""

    def test_every_cut_is_seen(self):
        whole = data_of(ct(1, size=2))
        extent.check_whole(whole, 0, explicit=False)
        extent.check_whole(whole + b"\0\0", 0, explicit=False)
        starts = {0}
        position = 0
        while position < len(whole):
            position += 8 + struct.unpack_from("<L", whole, position + 4)[0]
            starts.add(position)
        for cut in set(range(1, len(whole))) - starts:
            tail_is_zero = not any(whole[max(start for start in starts if start < cut) : cut])
            if tail_is_zero:
                continue
            with pytest.raises(extent.CutOffError):
                extent.check_whole(whole[:cut], 0, explicit=False)

    def test_fragments_and_sequences_of_undefined_length_are_stepped_over(self):
        item = struct.pack("<HHL", 0xFFFE, 0xE000, 4) + b"\1\2\3\4"
        end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        head = struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF)
        extent.check_whole(head + item + item + end, 0, explicit=True)
        for broken in (head + item, head + item + end[:4], head + item[:-1], head + b"\0" * 8):
            with pytest.raises(extent.CutOffError):
                extent.check_whole(broken, 0, explicit=True)
