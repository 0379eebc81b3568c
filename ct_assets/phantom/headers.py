"""DICOM headers as hospitals fill them: every place where the identity of a patient hides.

Belongs here: identity and acquisition in a header. Does not: pixels and geometry of a slice
(`phantom.objects`), who the patient is (`phantom.people`).
"""

import copy
import hashlib

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from ct_assets.phantom.people import Person
from ct_assets.phantom.scanner import Scanner

STUDY_STUDY_UID = UID("1.2.840.10008.3.1.2.3.1")
"""Detached Study Management, the class that old systems write into Referenced Study Sequence."""


def uid(*parts: object) -> UID:
    """Return a UID that depends on nothing but `parts` (PS3.5 B.2: '2.25.' and a UUID as a whole number)."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()[:16]
    number = int.from_bytes(digest, "big")
    number = (number & ~(0xF << 76)) | (4 << 76)
    number = (number & ~(0x3 << 62)) | (0x2 << 62)
    return UID(f"2.25.{number}")


def joined(*datasets: Dataset) -> Dataset:
    """Return a dataset with the elements of all; setting one of them later leaves the originals as they are.

    (`Dataset.update` would share the elements themselves, and setting a value would change both.)
    """
    result = Dataset()
    for dataset in datasets:
        for element in dataset:
            result[element.tag] = copy.copy(element)
    return result


def study_header(person: Person, study_date: str, study_time: str, seed: str) -> Dataset:
    """Return patient and study of one visit, identities everywhere that hospitals put them."""
    hospital = person.hospital
    referring, reading, operator = hospital.staff
    header = Dataset()
    header.SpecificCharacterSet = person.character_set
    header.StudyInstanceUID = uid(seed, "study")
    header.StudyDate, header.StudyTime = study_date, study_time
    header.StudyID = f"S{person.accession[-6:]}"
    header.AccessionNumber = person.accession
    header.StudyDescription = f"CT Thorax {person.family}, {person.given} {person.mrn}"
    header.InstitutionName, header.InstitutionAddress = hospital.name, hospital.address
    header.InstitutionalDepartmentName = hospital.department
    header.StationName = hospital.station
    header.ReferringPhysicianName = referring
    header.ReferringPhysicianTelephoneNumbers = f"{hospital.phone_prefix}199"
    header.ReferringPhysicianIdentificationSequence = [_staff(referring, hospital.name, "REF-90071")]
    header.NameOfPhysiciansReadingStudy = reading
    header.PerformingPhysicianName = reading
    header.OperatorsName = operator
    header.OperatorIdentificationSequence = [_staff(operator, hospital.name, "STAFF-33180")]
    _patient(header, person)
    _request(header, person, seed)
    return header


def _patient(header: Dataset, person: Person) -> None:
    header.PatientName = person.name
    header.PatientID = person.patient_id
    header.IssuerOfPatientID = person.hospital.issuer
    header.PatientBirthDate, header.PatientBirthTime = person.birth_date, "031500"
    header.PatientSex = person.sex
    header.PatientAge = f"{person.age_years:03d}Y"
    header.PatientSize, header.PatientWeight = "1.71", "74"
    header.OtherPatientNames = header.PatientBirthName = person.birth_name
    header.PatientMotherBirthName = f"{person.birth_name.split('^')[0]}^Walpurga"
    header.OtherPatientIDsSequence = [
        _item(PatientID=person.mrn, IssuerOfPatientID=person.hospital.issuer, TypeOfPatientID="TEXT")
    ]
    header.PatientAddress = person.address
    header.PatientTelephoneNumbers = person.phone
    header.InsurancePlanIdentification = person.insurance
    header.AdmissionID = person.admission
    header.Occupation = person.occupation
    header.EthnicGroup = "not stated"
    header.PatientComments = f"Call {person.title} on {person.phone} before the scan"
    born = f"{person.birth_date[6:]}.{person.birth_date[4:6]}.{person.birth_date[:4]}"
    header.AdditionalPatientHistory = f"{person.title}, born {born}, cough; insured {person.insurance}"


def _request(header: Dataset, person: Person, seed: str) -> None:
    header.RequestingPhysician = person.hospital.staff[0]
    header.RequestedProcedureDescription = f"CT chest for {person.title}"
    header.PerformedProcedureStepDescription = f"Staging CT {person.family}"
    header.PerformedProcedureStepID = f"PPS{person.accession[-7:]}"
    header.CommentsOnThePerformedProcedureStep = f"{person.family} tolerated the contrast well"
    study = _item(ReferencedSOPClassUID=STUDY_STUDY_UID, ReferencedSOPInstanceUID=uid(seed, "detached study"))
    header.RequestAttributesSequence = [
        _item(
            AccessionNumber=person.accession,
            ReferencedStudySequence=[study],
            RequestedProcedureDescription=f"CT {person.given} {person.family}",
            ScheduledProcedureStepDescription=f"Staging {person.mrn}",
            ScheduledProcedureStepID=f"SPS{person.accession[-7:]}",
            RequestedProcedureID=f"RQ{person.accession[-7:]}",
            ReasonForTheRequestedProcedure=f"Staging, {person.title}, admitted {person.admission}",
        )
    ]
    before = _item(
        PatientName=person.birth_name,
        PatientID=f"TMP{person.mrn}",
        OtherPatientIDsSequence=[_item(PatientID=person.admission, TypeOfPatientID="TEXT")],
    )
    header.OriginalAttributesSequence = [
        _item(
            ModifiedAttributesSequence=[before],
            AttributeModificationDateTime="20240216081500",
            ModifyingSystem=f"{person.hospital.station}_FIX",
            SourceOfPreviousValues=person.hospital.name,
            ReasonForTheAttributeModification="COERCE",
        )
    ]


def ct_header(person: Person, scanner: Scanner, seed: str, description: str) -> Dataset:
    """Return what all slices of a CT series share: equipment, protocol, private blocks."""
    header = Dataset()
    header.Modality = "CT"
    header.Manufacturer, header.ManufacturerModelName = scanner.manufacturer, scanner.model
    header.SoftwareVersions = scanner.software
    header.DeviceSerialNumber = f"SN{person.hospital.station[-2:]}90417"
    header.DeviceUID = uid("device", person.hospital.station, scanner.model)
    header.GantryID = f"{person.hospital.station}-G"
    header.SeriesInstanceUID = uid(seed, "series")
    header.SeriesNumber, header.AcquisitionNumber = 3, 1
    header.SeriesDescription = f"{description} {person.family} {person.patient_id}"
    header.ProtocolName = f"THX {person.family}/{person.hospital.staff[2].split('^')[0]}"
    header.BodyPartExamined, header.PatientPosition = "CHEST", "HFS"
    header.KVP, header.ConvolutionKernel = f"{scanner.kvp:g}", scanner.kernel
    header.ExposureTime, header.XRayTubeCurrent, header.Exposure = 500, 180, 90
    header.FilterType = "BODY"
    header.SpiralPitchFactor, header.CTDIvol = 0.9, 6.4
    header.ContrastBolusAgent = f"Exampol 300 ({person.hospital.staff[2].split('^')[0]})"
    header.ReconstructionDiameter = f"{scanner.field_of_view_mm:g}"
    header.SliceThickness = f"{scanner.thickness_mm:g}"
    header.GantryDetectorTilt, header.TableHeight = "0", "152"
    header.FrameOfReferenceUID = uid(seed, "frame of reference")
    header.PositionReferenceIndicator = ""
    _private(header, person, scanner)
    return header


def _private(header: Dataset, person: Person, scanner: Scanner) -> None:
    """Add the vendor's private blocks, an export system's, and an element that nobody owns."""
    letters = f"PatientName={person.family}; MRN={person.mrn}"
    if scanner.manufacturer == "SIEMENS":
        csa = header.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        csa.add_new(0x10, "OB", _even(b"SV10\4\3\2\1" + letters.encode("utf-16-le")))
        medcom = header.private_block(0x0029, "SIEMENS MEDCOM HEADER", create=True)
        inner = Dataset()
        inner.private_block(0x0029, "SIEMENS MEDCOM HEADER", create=True).add_new(
            0x42, "LO", f"REPORT {person.family}"
        )
        medcom.add_new(0x40, "SQ", Sequence([inner]))
    elif scanner.manufacturer == "GE MEDICAL SYSTEMS":
        identification = header.private_block(0x0009, "GEMS_IDEN_01", create=True)
        identification.add_new(0x01, "LO", "GE_GENESIS_FF")
        identification.add_new(0x27, "SL", 1707898210)
        identification.add_new(0xE3, "UI", uid(person.mrn, "equipment"))
        acquisition = header.private_block(0x0019, "GEMS_ACQU_01", create=True)
        acquisition.add_new(0x02, "SL", 888)
        acquisition.add_new(0x27, "DS", "0.5")
    else:
        block = header.private_block(0x0033, f"{scanner.manufacturer.upper()} PRIVATE", create=True)
        block.add_new(0x05, "LT", f"Operator note: {person.title}, {person.phone}")
    export = header.private_block(0x0035, f"{person.hospital.station} EXPORT 2.1", create=True)
    export.add_new(0x01, "PN", person.name)
    export.add_new(0x02, "LO", person.mrn)
    export.add_new(0x03, "DA", person.birth_date)
    export.add_new(0x04, "UN", _even(letters.encode()))
    header.add_new(0x00411001, "LO", f"{person.family} {person.phone}")


def overlay(header: Dataset, rng: np.random.Generator) -> None:
    """Add an overlay plane, a curve and an icon, as workstations burn them into groups of their own."""
    rows, columns = int(header.Rows), int(header.Columns)
    header.add_new(0x60000010, "US", rows)
    header.add_new(0x60000011, "US", columns)
    header.add_new(0x60000022, "LO", f"marks of {header.OperatorsName}")
    header.add_new(0x60000040, "CS", "G")
    header.add_new(0x60000050, "SS", [1, 1])
    header.add_new(0x60000100, "US", 1)
    header.add_new(0x60000102, "US", 0)
    header.add_new(0x60003000, "OW", rng.integers(0, 256, rows * columns // 8, dtype=np.uint8).tobytes())
    header.add_new(0x50000020, "CS", "TAC")
    header.add_new(0x50000022, "LO", f"{header.PatientName}")
    icon = Dataset()
    icon.Rows = icon.Columns = 8
    icon.SamplesPerPixel, icon.PhotometricInterpretation = 1, "MONOCHROME2"
    icon.BitsAllocated = icon.BitsStored = 8
    icon.HighBit, icon.PixelRepresentation = 7, 0
    icon.add_new(0x7FE00010, "OB", rng.integers(0, 256, 64, dtype=np.uint8).tobytes())
    header.IconImageSequence = [icon]


def _staff(name: str, institution: str, number: str) -> Dataset:
    code = _item(CodeValue=number, CodingSchemeDesignator="99LOCAL", CodeMeaning=name.replace("^", " "))
    return _item(InstitutionName=institution, PersonIdentificationCodeSequence=[code])


def _item(**elements: object) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def _even(content: bytes) -> bytes:
    return content + b"\0" * (len(content) % 2)
