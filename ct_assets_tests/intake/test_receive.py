"""The receiver, against associations made in Python: who may send, what is answered, what becomes a batch."""

import ssl
import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian

from ct_assets.errors import UsageError
from ct_assets.identity.key import SecretKey
from ct_assets.intake.network import receiver as network
from ct_assets.intake.network import settling
from ct_assets.layout import Layout
from ct_assets.settings.receive import ReceiveSettings, TlsSettings
from ct_assets_tests.intake.senders import CALLED, PATIENT, SENDER, association, ct, delivered, send, wait_for

IN_VAIN = 0.5
"""Seconds in which an unfinished study would long have been handed over."""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "data")


@pytest.fixture
def start(layout, secret_hex, monkeypatch):
    """Start receivers on a free port that look often; all are stopped at the end."""
    monkeypatch.setattr(network, "SECONDS_BETWEEN_LOOKS", 0.03)
    started = []

    def start_one(**changes) -> network.Receiver:
        settings = ReceiveSettings(senders=(SENDER,), quiet_seconds=0.1, keep_free_mb=0)
        one = network.Receiver(settings.model_copy(update={"port": 0, **changes}), layout, key(secret_hex))
        one.start()
        started.append(one)
        return one

    network.silence_library()
    yield start_one
    for one in started:
        if not one._ending.is_set():
            one.stop()


def key(secret_hex: str) -> SecretKey:
    return SecretKey.from_hex(secret_hex)


class TestWhoMaySend:
    def test_an_association_needs_both_ae_titles(self, start):
        port = start().port
        for sender, called in [("STRANGER", CALLED), (SENDER, "ANOTHER")]:
            with association(port, sender, called) as refused:
                assert refused.is_rejected
        with association(port) as allowed:
            assert allowed.is_established
            assert allowed.send_c_echo().Status == 0

    def test_without_a_sender_it_does_not_start(self):
        with pytest.raises(UsageError, match=r"receive\.senders"):
            network.refuse_unsafe(ReceiveSettings(), public=False)

    @pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::", "receiver.example.org"])
    def test_an_address_that_others_reach_is_said_twice(self, host):
        settings = ReceiveSettings(senders=(SENDER,), host=host)
        with pytest.raises(UsageError, match="--public"):
            network.refuse_unsafe(settings, public=False)
        network.refuse_unsafe(settings, public=True)

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
    def test_loopback_needs_no_second_word(self, host):
        network.refuse_unsafe(ReceiveSettings(senders=(SENDER,), host=host), public=False)

    def test_two_receivers_on_one_data_root_are_refused(self, start):
        start()
        with pytest.raises(UsageError, match="another receiver"):
            start()

    def test_a_port_in_use_is_named(self, start, tmp_path):
        port = start().port
        other = network.Receiver(ReceiveSettings(senders=(SENDER,), port=port), Layout(tmp_path / "b"), None)
        with pytest.raises(UsageError, match=f"port {port}"):
            other.start()


def make_certificates(folder: Path) -> None:
    """An authority, certificates of a server and a client by it, and a client by another authority."""

    def run(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    folder.mkdir()
    for authority in ("ca", "other_ca"):
        run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={authority}", "-keyout", f"{authority}.key", "-out", f"{authority}.pem")  # fmt: skip
    for name, authority in (("server", "ca"), ("client", "ca"), ("stranger", "other_ca")):
        run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        run("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
            "-CAcreateserial", "-days", "2", "-out", f"{name}.pem")  # fmt: skip


class TestTls:
    @pytest.fixture
    def certificates(self, tmp_path):
        make_certificates(tmp_path / "tls")
        return tmp_path / "tls"

    @pytest.fixture
    def tls(self, certificates):
        return TlsSettings(
            certificate=certificates / "server.pem",
            private_key=certificates / "server.key",
            client_ca=certificates / "ca.pem",
        )

    def client(self, certificates: Path, name: str | None) -> tuple[ssl.SSLContext, str]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(certificates / "ca.pem")
        if name:
            context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
        return context, "localhost"

    def test_only_a_certificate_of_the_authority_gets_in(self, start, tls, certificates, layout):
        port = start(tls=tls).port
        for name in ("stranger", None):
            with association(port, tls_args=self.client(certificates, name)) as refused:
                assert not refused.is_established
        with association(port) as plain:
            assert not plain.is_established
        with association(port, tls_args=self.client(certificates, "client")) as allowed:
            assert allowed.send_c_store(ct(1)).Status == 0
        wait_for(lambda: delivered(layout))

    def test_a_client_that_stays_silent_holds_up_nobody(self, start, tls, certificates):
        import socket

        port = start(tls=tls).port
        tls_args = self.client(certificates, "client")
        silent = socket.create_connection(("127.0.0.1", port))
        with silent, association(port, tls_args=tls_args) as allowed:
            assert allowed.send_c_echo().Status == 0

    def test_a_key_that_does_not_fit_is_told_at_the_start(self, start, tls, certificates):
        with pytest.raises(UsageError, match=r"receive\.tls"):
            start(tls=tls.model_copy(update={"private_key": certificates / "client.key"}))


class TestABatch:
    def test_is_a_study_released_and_quiet_byte_for_byte(self, start, layout):
        sent = [ct(number) for number in range(5)]
        assert send(start().port, sent) == [0] * 5
        wait_for(lambda: delivered(layout))
        (batch,) = delivered(layout)
        read = [dcmread(path) for path in (layout.inbox / batch).rglob("*.dcm")]
        by_number = sorted(read, key=lambda one: one.InstanceNumber)
        assert [one.PixelData for one in by_number] == [one.PixelData for one in sent]
        assert all(one == original for one, original in zip(by_number, sent, strict=True))

    def test_keeps_the_encoding_it_was_sent_in(self, start, layout):
        from pynetdicom import AE

        entity = AE(ae_title=SENDER)
        entity.add_requested_context("1.2.840.10008.5.1.4.1.1.2", ImplicitVRLittleEndian)
        opened = entity.associate("127.0.0.1", start().port, ae_title=CALLED)
        one = ct(1)
        one.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        assert opened.send_c_store(one).Status == 0
        opened.release()
        wait_for(lambda: delivered(layout))
        (path,) = layout.inbox.rglob("*.dcm")
        assert dcmread(path).file_meta.TransferSyntaxUID == ImplicitVRLittleEndian

    def test_has_names_that_tell_nothing(self, start, layout):
        sent = ct(1)
        send(start().port, [sent])
        wait_for(lambda: delivered(layout))
        names = "\n".join(path.relative_to(layout.root).as_posix() for path in layout.root.rglob("*"))
        for identity in (PATIENT, sent.StudyInstanceUID, sent.SeriesInstanceUID, sent.SOPInstanceUID, SENDER):
            assert identity not in names

    def test_nothing_of_a_patient_is_said(self, start, layout, capfd):
        one = start()
        sent = [ct(1), ct(2, SOPInstanceUID="1.2.3")]
        with association(one.port) as opened:
            opened.send_c_store(sent[0])
            opened.send_c_store(sent[1])
            opened.abort()
        send(one.port, sent)
        wait_for(lambda: delivered(layout))
        said = "".join(capfd.readouterr())
        assert "stored" in said
        for identity in (PATIENT, *(str(one.SOPInstanceUID) for one in sent), sent[0].StudyInstanceUID):
            assert identity not in said

    def test_each_study_is_one_of_its_own(self, start, layout):
        send(start().port, [ct(1, patient="A"), ct(1, patient="B"), ct(2, patient="A")])
        wait_for(lambda: len(delivered(layout)) == 2)
        assert sorted(map(len, delivered(layout).values())) == [1, 2]

    def test_waits_while_another_association_still_sends(self, start, layout):
        port = start().port
        with association(port) as slow:
            assert slow.send_c_store(ct(1)).Status == 0
            send(port, [ct(2)])
            with pytest.raises(AssertionError, match="in vain"):
                wait_for(lambda: delivered(layout), IN_VAIN)
        wait_for(lambda: delivered(layout))
        assert [len(files) for files in delivered(layout).values()] == [2]

    def test_is_the_same_whoever_sends_in_whatever_order(self, start, layout, tmp_path, secret_hex):
        objects = [ct(number) for number in range(4)]
        send(start().port, objects)
        other = Layout(tmp_path / "other")
        settings = ReceiveSettings(senders=("ELSE",), quiet_seconds=0.1, keep_free_mb=0, port=11113)
        second = network.Receiver(settings.model_copy(update={"port": 0}), other, key(secret_hex))
        second.start()
        with association(second.port, "ELSE") as opened:
            for one in reversed(objects):
                opened.send_c_store(one)
        wait_for(lambda: delivered(other))
        second.stop()
        wait_for(lambda: delivered(layout))
        assert delivered(other) == delivered(layout)


class TestNothingTwice:
    def test_an_equal_object_again_is_acknowledged_and_kept_once(self, start, layout):
        assert send(start().port, [ct(1), ct(2), ct(1)]) == [0, 0, 0]
        wait_for(lambda: delivered(layout))
        assert [len(files) for files in delivered(layout).values()] == [2]

    def test_a_study_sent_again_after_its_batch_makes_no_second_one(self, start, layout):
        one = start()
        send(one.port, [ct(1), ct(2)])
        wait_for(lambda: delivered(layout))
        first = delivered(layout)
        assert send(one.port, [ct(2), ct(1)]) == [0, 0]
        wait_for(lambda: not one.spool.studies)
        assert delivered(layout) == first

    def test_also_not_after_a_restart_and_registration(self, start, layout):
        from ct_assets.intake.batches import register

        one = start()
        send(one.port, [ct(1), ct(2)])
        wait_for(lambda: delivered(layout))
        (batch,) = delivered(layout)
        one.stop()
        register(layout, batch)
        again = start()
        send(again.port, [ct(1), ct(2)])
        wait_for(lambda: not again.spool.studies)
        assert delivered(layout) == {}

    def test_what_comes_late_is_a_batch_of_its_own(self, start, layout):
        one = start()
        send(one.port, [ct(1)])
        wait_for(lambda: delivered(layout))
        send(one.port, [ct(1), ct(2)])
        wait_for(lambda: len(delivered(layout)) == 2)
        assert [len(files) for files in delivered(layout).values()] == [1, 1]

    def test_unequal_objects_under_one_uid_are_both_delivered(self, start, layout):
        """The de-identification names the conflict; to drop one here would be to judge in silence."""
        send(start().port, [ct(1), ct(1, KVP="80")])
        wait_for(lambda: delivered(layout))
        assert [len(files) for files in delivered(layout).values()] == [2]


class TestBrokenOff:
    def send_and_abort(self, port: int, numbers: range) -> None:
        with association(port) as opened:
            for number in numbers:
                opened.send_c_store(ct(number))
            opened.abort()

    def test_a_series_broken_off_is_no_batch_until_it_is_sent_again(self, start, layout):
        one = start()
        self.send_and_abort(one.port, range(3))
        wait_for(lambda: settling.open_studies(layout)[0].broken == {"association_aborted": 1})
        with pytest.raises(AssertionError, match="in vain"):
            wait_for(lambda: delivered(layout), IN_VAIN)
        send(one.port, [ct(number) for number in range(6)])
        wait_for(lambda: delivered(layout))
        assert [len(files) for files in delivered(layout).values()] == [6]
        assert settling.open_studies(layout) == []

    def test_another_series_does_not_make_it_whole(self, start, layout):
        one = start()
        self.send_and_abort(one.port, range(3))
        send(one.port, [ct(1, series="other")])
        with pytest.raises(AssertionError, match="in vain"):
            wait_for(lambda: delivered(layout), IN_VAIN)

    def test_after_the_reporting_time_the_whole_series_go_and_the_broken_one_stays(self, start, layout):
        one = start(report_seconds=0.5)
        self.send_and_abort(one.port, range(3))
        send(one.port, [ct(1, series="other"), ct(2, series="other")])
        wait_for(lambda: delivered(layout))
        assert [len(files) for files in delivered(layout).values()] == [2]
        (waiting,) = settling.open_studies(layout)
        assert (waiting.series, waiting.objects, waiting.broken) == (1, 3, {"association_aborted": 1})
        reported = [line for line in one.settler.record.lines() if line["event"] == "reported"]
        assert [line["reason"] for line in reported] == ["association_aborted"]

    @pytest.mark.parametrize(("decision", "expected"), [("deliver", [3]), ("discard", [])])
    def test_a_person_may_decide(self, start, layout, decision, expected):
        one = start()
        self.send_and_abort(one.port, range(3))
        wait_for(lambda: settling.open_studies(layout)[0].broken)
        settling.decide(layout, settling.open_studies(layout)[0].study, decision)
        wait_for(lambda: settling.open_studies(layout) == [])
        wait_for(lambda: [len(files) for files in delivered(layout).values()] == expected)

    def test_a_study_that_does_not_wait_cannot_be_decided(self, layout):
        for name in ("abc", "../../etc", ".hidden"):
            with pytest.raises(UsageError, match="no such study"):
                settling.decide(layout, name, "deliver")

    def test_a_connection_that_is_cut_is_broken_off_too(self, start, layout):
        one = start()
        with association(one.port) as opened:
            opened.send_c_store(ct(1))
            opened.dul.socket.socket.shutdown(2)
            wait_for(lambda: settling.open_studies(layout)[0].broken == {"association_aborted": 1})

    def test_stopped_in_the_middle_the_next_start_finds_it_broken(self, start, layout):
        one = start()
        with association(one.port) as opened:
            opened.send_c_store(ct(1))
            one.stop()
        again = start()
        (waiting,) = settling.open_studies(layout)
        assert set(waiting.broken) <= {"association_aborted", "receiver_stopped"}
        assert waiting.objects == 1
        send(again.port, [ct(1), ct(2)])
        wait_for(lambda: delivered(layout))
        assert [len(files) for files in delivered(layout).values()] == [2]


class TestRefusedObjects:
    def test_without_room_the_sender_is_told_to_come_again_and_the_study_waits(self, start, layout):
        one = start()
        with association(one.port) as opened:
            assert opened.send_c_store(ct(1)).Status == 0
            one.spool.keep_free_bytes = 1 << 62
            assert opened.send_c_store(ct(2)).Status == 0xA700
        one.spool.keep_free_bytes = 0
        wait_for(lambda: settling.open_studies(layout)[0].broken == {"object_not_stored": 1})
        assert settling.open_studies(layout)[0].lacking == 1
        with pytest.raises(AssertionError, match="in vain"):
            wait_for(lambda: delivered(layout), IN_VAIN)
        assert send(one.port, [ct(2)]) == [0]
        wait_for(lambda: delivered(layout))
        assert [len(files) for files in delivered(layout).values()] == [2]

    def test_a_hand_over_that_fails_is_tried_again(self, start, layout, monkeypatch):
        from ct_assets.intake.markers import Marker

        write, failures = Marker.write, iter([True, True, False])

        def full_twice(marker, folder):
            if next(failures, False):
                raise OSError(28, "No space left on device")
            write(marker, folder)

        monkeypatch.setattr(Marker, "write", full_twice)
        send(start().port, [ct(1)])
        wait_for(lambda: delivered(layout))
        assert [len(files) for files in delivered(layout).values()] == [1]

    def test_an_object_of_no_study_is_not_understood(self, start, layout):
        nobody = ct(1)
        del nobody.StudyInstanceUID
        assert send(start().port, [nobody, ct(2)]) == [0xC000, 0]
        wait_for(lambda: delivered(layout))
        assert [len(files) for files in delivered(layout).values()] == [1]

    def test_an_object_that_is_another_than_announced_is_refused(self, start, layout):
        """The command names one instance and the data set is another: the sender's list would lie."""
        with association(start().port) as opened:
            assert send_as(opened, ct(1), "1.2.3.4") == 0xA900
        assert list(layout.inbox.rglob("*.dcm")) == []

    def test_an_unreasonably_long_pdu_ends_its_association_alone(self, start):
        import socket

        port = start().port
        with socket.create_connection(("127.0.0.1", port)) as attacker:
            attacker.sendall(b"\x01\x00\xff\xff\xff\xff" + b"\0" * 64)
            attacker.settimeout(10)
            assert attacker.recv(16)[:1] in (b"", b"\x07"), "closed or aborted"
        with association(port) as opened:
            assert opened.send_c_echo().Status == 0


def send_as(opened, one, announced: str) -> int:
    """Send an object under another SOP Instance UID than its own, below the library's own checks."""
    from io import BytesIO

    from pynetdicom.dimse_primitives import C_STORE
    from pynetdicom.dsutils import encode

    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = one.SOPClassUID, announced
    request.DataSet = BytesIO(encode(one, False, True))
    opened._reactor_checkpoint.clear()
    opened.dimse.send_msg(request, opened.accepted_contexts[0].context_id)
    _, response = opened.dimse.get_msg(block=True)
    opened._reactor_checkpoint.set()
    return response.Status
