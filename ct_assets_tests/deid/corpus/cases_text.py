"""Hard cases 18, 19 and 23: names in text and file names, character sets, and a claim of being clean."""

from dataclasses import replace

from pydicom.dataset import Dataset

from ct_assets_tests.deid.corpus import objects
from ct_assets_tests.deid.corpus.objects import Uids
from ct_assets_tests.deid.corpus.people import People
from ct_assets_tests.deid.corpus.things import Thing


def names_in_text(people: People, uids: Uids) -> list[Thing]:
    """18: the name in descriptions, comments, the protocol and the file's own name."""
    person = people.person()
    name, told = person.family, person.tokens
    folder = f"{name}_{person.given}_{person.patient_id}"
    made = objects.ct_series("18", folder, person, objects.study(person, uids), uids)
    for slice_ in made:
        put = slice_.put
        put(
            "StudyDescription",
            f"CT Thorax {name}, {person.given} {told['other patient id']}",
            "removed",
            "nowhere",
        )
        put("ProtocolName", f"Thorax_{name.upper()}", "removed", "nowhere")
        put(
            "ImageComments", f"repeat, {person.given} {name} moved; tel {told['phone']}", "removed", "nowhere"
        )
        put("PerformedProcedureStepDescription", f"for {told['physician']}", "removed", "nowhere")
        put("RequestedProcedureDescription", f"staging {person.patient_id}", "removed", "nowhere")
        put(
            "AdditionalPatientHistory",
            f"{name}, born {_dotted(person.birth_date)}, smoker",
            "removed",
            "nowhere",
        )
        put("ContrastBolusAgent", f"Iohexol 350 for {name}", "removed", "nowhere")
    made[0].path = f"{folder}/{name}.{person.birth_date}.dcm"
    made[1].put("SeriesDescription", f"Thorax {name} 3.0", "removed", "nowhere")
    return made


def character_sets(people: People, uids: Uids) -> list[Thing]:
    """19: ideographic groups, ISO 2022, a character set that is missing, and one that is wrong."""
    written = (
        ("umlaut", "ISO_IR 100", "Grünmoßer", "Grünmoßer^Jürgen"),
        ("polish", "ISO_IR 192", "Wiśniakowska", "Wiśniakowska^Żaneta"),
        ("cyrillic", "ISO_IR 144", "Звягольский", "Звягольский^Тихон"),
        ("greek", "ISO_IR 126", "Παπαθωμάκης", "Παπαθωμάκης^Ορέστης"),
        ("chinese", "GB18030", "Ouyangqiu", "Ouyangqiu^Mingzhe=欧阳秋^明哲"),
        ("japanese", ("", "ISO 2022 IR 87"), "Kurumizaka", "Kurumizaka^Tarou=胡桃坂^太郎=くるみざか^たろう"),
        ("korean", ("", "ISO 2022 IR 149"), "Hwangbong", "Hwangbong^Gildong=황봉^길동"),
    )
    made: list[Thing] = []
    for folder, charset, family, name in written:
        person = people.person(
            family=family, name=name, charset=charset, given=name.split("=")[0].split("^")[1]
        )
        ideographs = [group.split("^")[0] for group in name.split("=")[1:]]
        person = replace(
            person, tokens={**person.tokens, **{f"group {i}": g for i, g in enumerate(ideographs)}}
        )
        slices = objects.ct_series(
            "19", f"charsets/{folder}", person, objects.study(person, uids), uids, slices=2
        )
        for slice_ in slices:
            slice_.put(
                "StudyDescription", f"Thorax {ideographs[0] if ideographs else family}", "removed", "nowhere"
            )
        made += slices
    missing = people.person(family="Groesslbacher", name="Größlbacher^Uwe", charset="ISO_IR 100", given="Uwe")
    for slice_ in objects.ct_series(
        "19", "charsets/missing", missing, objects.study(missing, uids), uids, slices=1
    ):
        slice_.put("StudyDescription", "Thorax Größlbacher", "removed", "nowhere")
        written_bytes = slice_.content()
        slice_.raw = _without_charset(written_bytes)
        made.append(slice_)
    wrong = people.person(family="Hölzlwimmer", name="Hölzlwimmer^Ada", charset="ISO_IR 192", given="Ada")
    for slice_ in objects.ct_series(
        "19", "charsets/wrong", wrong, objects.study(wrong, uids), uids, slices=1
    ):
        slice_.put("StudyDescription", "Thorax Hölzlwimmer", "removed", "nowhere")
        slice_.raw = slice_.content().replace(b"ISO_IR 192", b"ISO_IR 999")
        made.append(slice_)
    return made


def ordinary_words(people: People, uids: Uids) -> list[Thing]:
    """18: a surname that is a word of radiology, which must not destroy what others wrote."""
    person = people.person(family="Stone", given="Hand")
    made = objects.ct_series("18", "words", person, objects.study(person, uids), uids, slices=2)
    for slice_ in made:
        slice_.put("BodyPartExamined", "CHEST", "kept", "same")
    other = people.person()
    for slice_ in objects.ct_series(
        "18", "words_of_others", other, objects.study(other, uids), uids, slices=1
    ):
        slice_.put("StudyDescription", "CT kidney stone", "kept", "policy")
        slice_.put("BodyPartExamined", "HAND", "kept", "same")
        made.append(slice_)
    return [_without_family_token(thing) for thing in made]


def claims_to_be_clean(people: People, uids: Uids) -> list[Thing]:
    """23: foreign input that says PatientIdentityRemoved YES and is not."""
    person = people.person()
    made = objects.ct_series("23", "claimed", person, objects.study(person, uids), uids, slices=2)
    for slice_ in made:
        slice_.dataset.PatientIdentityRemoved = "YES"
        slice_.dataset.DeidentificationMethod = f"by hand, {person.tokens['operator']}"
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator = "113100", "DCM"
        code.CodeMeaning = "Basic Application Confidentiality Profile"
        slice_.dataset.DeidentificationMethodCodeSequence = [code]
    return made


def _without_family_token(thing: Thing) -> Thing:
    """A word that everybody uses cannot be searched for everywhere; it stays a mark at its own places."""
    if thing.person and thing.person.family == "Stone":
        thing.person = replace(thing.person, tokens={**thing.person.tokens, "common word": ""})
        thing.marks = [
            (path, kind, "not_here" if path == "00100010" else check) for path, kind, check in thing.marks
        ]
    return thing


def _without_charset(content: bytes) -> bytes:
    """Cut SpecificCharacterSet (0008,0005) out of an Explicit VR file."""
    start = content.index(b"\x08\x00\x05\x00CS")
    length = int.from_bytes(content[start + 6 : start + 8], "little")
    return content[:start] + content[start + 8 + length :]


def _dotted(day: str) -> str:
    return f"{day[6:]}.{day[4:6]}.{day[:4]}"
