"""Make `text_attributes.csv` and its page: the rule of every text attribute of the data dictionary.

The table decides first (PS3.15 Table E.1-1, under the options of the shipped profile). An attribute that it does not
name is sorted by what it holds: codes, technical values, labels of research, descriptions that people type,
identifiers, addresses of the net, numbers written as text. The sorting is by the lists and endings below; the file
that comes out is what the engine reads, so a person can review it line by line.

    python scripts/make_text_rules.py
"""

import csv
import re
from io import StringIO
from pathlib import Path

from pydicom._dicom_dict import DicomDictionary

from ct_assets.deid.elements import rules, table
from ct_assets.deid.elements.spelling import words
from ct_assets.deid.elements.table import AttributeTypes
from ct_assets.settings.deid import DeidProfile

ROOT = Path(__file__).resolve().parents[1]
CSV = ROOT / "ct_assets/deid/data/text_attributes.csv"
PAGE = ROOT / "docs/text_attributes.md"
TEXT_VRS = ("AE", "CS", "DS", "IS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT")

CODES = words(
    """CodeValue LongCodeValue URNCodeValue CodeMeaning CodingSchemeDesignator CodingSchemeVersion ExtendedCodeValue
        ExtendedCodeMeaning CodingSchemeName CodingSchemeExternalID CodingSchemeResponsibleOrganization
        CodingSchemeRegistry MappingResourceName"""
)
LABELS = words("ROIName ROIObservationLabel SegmentLabel SegmentAlgorithmName TrackingID")
IDENTIFIERS = words(
    """RadiationMachineName DeviceID GridID ComponentWelderIDs SubstanceAdministrationDeviceID PrintQueueID CarrierID
        RouteID RouteSegmentID RouteSegmentStartLocationID RouteSegmentEndLocationID ItineraryIDAssigningAuthority
        RouteIDAssigningAuthority AuthorizationEquipmentCertificationNumber ProductLotIdentifier DisplaySubsystemName
        StrainStockNumber StrainSource ImageID ImplantTemplateGroupIssuer ImplantAssemblyTemplateIssuer
        PatientBirthDateInAlternativeCalendar PatientDeathDateInAlternativeCalendar NTPSourceAddress
        LocalNamespaceEntityID UniversalEntityID PlacerOrderNumberImagingServiceRequestRetired
        FillerOrderNumberImagingServiceRequestRetired PlacerOrderNumberProcedure FillerOrderNumberProcedure OwnerID
        ContactDisplayName StorageMediaFileSetID HangingProtocolCreator HangingProtocolUserGroupName PrintJobID
        PrinterName BreedRegistrationNumber CompressionOriginator AssignedLocation BoardingPassID ItineraryID"""
)
DESCRIPTIONS = words(
    """AcquisitionProtocolName ProtocolElementName ReferenceToRecordedSound DataSetName DataSetSource StageName
        ViewName BeamName BlockName RTImageName ApplicationSetupName TemplateName HangingProtocolName ConfigurationName
        TreatmentProtocols SurgicalTechnique PatientAdditionalPosition PotentialReasonsForProcedure
        PotentialDiagnosticTasks FixationDevicePosition ShieldingDevicePosition PatientReliabilityIndicator
        EventTimerNames WedgeName ManipulatedImage FrameLabelVector DisplayWindowLabelVector EnergyWindowName
        OptotypeDetailedDefinition"""
)
DESCRIPTION_ENDINGS = re.compile(
    r"(?:Description|Comments?|Remarks|Notes|Text|Narrative|Reason|DescriptionTrial|Label)$"
)
VALUES = words(
    """DimensionDescriptionLabel SegmentationCreationTemplateLabel GridAbsorbingMaterial GridSpacingMaterial
        DetectorMode AlgorithmParameters FractionPattern EXIFVersion ImageDisplayFormat
        ConceptualVolumeCombinationExpression"""
)
WHY = {
    "code": "a code or a term of a coding scheme",
    "label": "names a region, segment or finding for research",
    "identifier": "leads to a person, place or device, as its listed twins do",
    "description": "typed by people",
    "free text": "free text",
    "person": "a person's name",
    "address": "an address of the net",
    "value": "a technical value or a name of a product",
    "number": "a number written as text",
    "code string": "a defined term",
}
MEANING = {
    "code": "stays; where its scheme is no standard terminology, dates, telephone numbers, addresses and titles with "
    "names are cut out",
    "label": "stays exactly but for known identifiers in any spelling, true dates, telephone numbers and the like",
    "identifier": "removed, emptied or replaced by its Type",
    "description": "only harmless words stay",
    "free text": "stays if all of it is harmless, else it goes",
    "person": "replaced",
    "address": "stays if its host publishes a coding scheme, else replaced",
    "value": "stays exactly but for known identifiers, dates, telephone numbers, addresses and titles with names",
    "number": "stays if it is a number (PS3.5 6.2), else it goes",
    "code string": "stays; only the patient's own identifiers that are no word of medicine are cut out",
}


def main() -> None:
    CSV.write_text(rows_as_csv(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")


def kind_of(vr: str, keyword: str) -> str:
    """Return how an attribute that the table does not name is treated."""
    if keyword in CODES:
        return "code"
    if keyword in LABELS:
        return "label"
    if keyword in IDENTIFIERS:
        return "identifier"
    if vr == "PN":
        return "person"
    if vr == "UR":
        return "address"
    if vr in ("IS", "DS"):
        return "number"
    if vr == "CS":
        return "code string"
    if keyword in VALUES:
        return "value"
    if vr in ("ST", "LT", "UT"):
        return "free text"
    if keyword in DESCRIPTIONS or DESCRIPTION_ENDINGS.search(keyword):
        return "description"
    return "value"


def rows() -> list[tuple[str, str, str, str, str]]:
    """Return tag, keyword, VR, kind and reason of each text attribute."""
    listed, decided = table.load().rows, rules.Rules(DeidProfile())
    found = []
    for tag, (vr, _, _, _, keyword) in sorted(DicomDictionary.items()):
        if vr not in TEXT_VRS or tag >> 16 < 0x0008 or not keyword:
            continue
        row = listed.get(tag)
        if row is not None:
            rule = decided.rule_for(tag, vr, "", AttributeTypes({}), False)
            found.append((f"{tag:08X}", keyword, vr, "listed", f"{rule.label}: {rule.do.value}"))
        else:
            kind = kind_of(vr, keyword)
            found.append((f"{tag:08X}", keyword, vr, kind, WHY[kind]))
    return found


def rows_as_csv() -> str:
    """Return the file as text."""
    written = StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(("tag", "keyword", "vr", "kind", "why"))
    writer.writerows(rows())
    return written.getvalue()


def page() -> str:
    """Return the page that shows the rule of every text attribute."""
    head = f"""# The rule of every text attribute

Made by `scripts/make_text_rules.py` from PS3.15 Table E.1-1 (edition {table.load().edition}) and the data dictionary; the
file behind it, which the engine reads, is `ct_assets/deid/data/text_attributes.csv`. For listed attributes the column
says what the shipped profile does where the IOD sets no Type. A value that is not valid for its VR goes.

| kind | what happens |
|---|---|
| listed | as PS3.15 says |
"""
    kinds = "".join(f"| {kind} | {meaning} |\n" for kind, meaning in MEANING.items())
    lines = "".join(
        f"| ({tag[:4]},{tag[4:]}) | {keyword} | {vr} | {kind} | {why} |\n"
        for tag, keyword, vr, kind, why in rows()
    )
    return f"{head}{kinds}\n| tag | attribute | VR | kind | why |\n|---|---|---|---|---|\n{lines}"


if __name__ == "__main__":
    main()
