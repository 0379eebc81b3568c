"""Objects made for a test, and their de-identification in memory: what is not said is an ordinary CT slice."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from ct_assets.deid.batch import dicomfile
from ct_assets.deid.batch.gather import Gathered, facts_of
from ct_assets.deid.elements import method
from ct_assets.deid.elements.engine import Engine, Person
from ct_assets.deid.elements.identifiers import Finder, Identifiers
from ct_assets.identity.key import SecretKey
from ct_assets.identity.pseudonyms import pseudonym, shift_days
from ct_assets.settings.deid import DeidProfile

KEY = SecretKey(bytes(range(32)))
CT, SEG, SR, PDF = (f"1.2.840.10008.5.1.4.1.1.{part}" for part in ("2", "66.4", "88.11", "104.1"))


def ct(**values: object) -> Dataset:
    """Return a CT slice of 8 x 8 pixels; keywords set or (None) leave out attributes."""
    made = Dataset()
    defaults = {
        "SOPClassUID": CT,
        "SOPInstanceUID": "1.2.826.0.1.3680043.99.1.1",
        "StudyInstanceUID": "1.2.826.0.1.3680043.99.1",
        "SeriesInstanceUID": "1.2.826.0.1.3680043.99.1.0",
        "FrameOfReferenceUID": "1.2.826.0.1.3680043.99.7",
        "Modality": "CT",
        "PatientName": "Quenneville^Ottoline",
        "PatientID": "QX4471093",
        "IssuerOfPatientID": "HOSP-A",
        "PatientBirthDate": "19610417",
        "PatientSex": "F",
        "PatientAge": "058Y",
        "StudyDate": "20200117",
        "StudyTime": "101112",
        "AccessionNumber": "ACC88123456",
        "ReferringPhysicianName": "Thistlethwaite^Basil",
        "StudyID": "S9931",
        "Manufacturer": "Orbweaver",
        "KVP": "120",
        "Rows": 8,
        "Columns": 8,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "PixelData": np.arange(64, dtype=np.uint16).tobytes(),
    }
    for keyword, value in {**defaults, **values}.items():
        if value is not None:
            setattr(made, keyword, value)
    if "PixelData" in made:
        made["PixelData"].VR = "OW"
    return made


def item(**values: object) -> Dataset:
    """Return a sequence item."""
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def sequence(**values: object) -> Sequence:
    """Return a sequence of one item."""
    return Sequence([item(**values)])


def as_bytes(dataset: Dataset, syntax: str = ExplicitVRLittleEndian, **meta: object) -> bytes:
    """Return the object as a file in a transfer syntax."""
    written = Dataset()
    written.update({tag: dataset[tag] for tag in dataset.keys()})  # noqa: SIM118 (a data set iterates over elements)
    written.file_meta = FileMetaDataset()
    written.file_meta.TransferSyntaxUID = syntax
    written.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID") or CT
    written.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID") or "1.2.3"
    for keyword, value in meta.items():
        setattr(written.file_meta, keyword, value)
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, written, enforce_file_format=True)
    return buffer.getvalue()


def save(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write the object and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(as_bytes(dataset, syntax))
    return path


class Deidentified:
    """One object after the engine: the new object, its bytes, and the fate of each element."""

    def __init__(self, content: bytes, profile: DeidProfile | None = None) -> None:
        profile = profile or DeidProfile()
        gathered = Gathered()
        facts_of("x", content, gathered)
        (self.facts,) = gathered.files
        assert self.facts.code is None, self.facts.code
        identity = (KEY, self.facts.patient_id, self.facts.issuer)
        self.person = Person(pseudonym(*identity), shift_days(*identity))
        identifiers = Identifiers()
        for kind, value, *_ in gathered.values:
            identifiers.add(kind, value, self.person.pseudonym)
        source = dicomfile.read(content)
        engine = Engine(profile, KEY, Finder(identifiers))
        stated = method.elements(profile, source, is_redacted=False, has_no_text=False, may_show_a_face=False)
        self.done = done = engine.deidentify(source, self.facts.sop_class, self.person, stated)
        self.fates = {fate["path"]: fate for told in done.fates for fate in _unjoined(told)}
        self.content = b"".join(
            dicomfile.file_bytes(
                done.chunks, self.facts.sop_class, engine.uid(self.facts.sop_instance), source.transfer_syntax
            )
        )
        self.dataset = pydicom.dcmread(BytesIO(self.content))


def deid(dataset: Dataset, profile: DeidProfile | None = None, **encoding: str) -> Dataset:
    """Return the object after the engine."""
    return Deidentified(as_bytes(dataset, **encoding), profile).dataset


def _unjoined(told: bytes) -> list[dict[str, object]]:
    import orjson

    return orjson.loads(b"[" + told + b"]")
