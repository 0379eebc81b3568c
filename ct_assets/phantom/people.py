"""Invented patients, staff and hospitals: every identity that the phantom's files carry.

Belongs here: names, numbers and addresses, none of which belongs to anybody (telephone numbers are those
that regulators reserve for fiction). Where in a header they stand is decided by `phantom.headers`.
"""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Hospital:
    """A place that sends images."""

    site: str
    issuer: str
    name: str
    address: str
    department: str
    station: str
    phone_prefix: str
    staff: tuple[str, str, str]
    """Referring physician, reading physician, operator."""


@dataclass(frozen=True)
class Person:
    """A patient and everything that could tell who it is."""

    hospital: Hospital
    patient_id: str
    name: str
    """PatientName as DICOM writes it, `Family^Given`, with ideographic groups where the name has them."""
    birth_name: str
    sex: str
    birth_date: str
    age_years: int
    phone: str
    address: str
    mrn: str
    accession: str
    insurance: str
    admission: str
    occupation: str
    character_set: str | list[str] = "ISO_IR 100"

    @property
    def family(self) -> str:
        """The family name in its first writing."""
        return self.name.split("=")[0].split("^")[0]

    @property
    def given(self) -> str:
        """The given name in its first writing."""
        return self.name.split("=")[0].split("^")[1]

    @property
    def title(self) -> str:
        """How letters address the patient."""
        return f"{'Mrs' if self.sex == 'F' else 'Mr'} {self.given} {self.family}"

    def tokens(self) -> tuple[str, ...]:
        """Words and numbers that may not occur in anything released."""
        names = [part for text in (self.name, self.birth_name) for part in text.replace("=", "^").split("^")]
        staff = [part for text in self.hospital.staff for part in text.split("^")]
        numbers = [self.patient_id, self.phone, self.mrn, self.accession, self.insurance, self.admission]
        return tuple(dict.fromkeys([*names, *numbers, self.address, *staff, self.hospital.name]))


HOSPITALS = (
    Hospital(
        "EBK", "EBK-KIS", "Klinikum Erlenbruck", "Am Weidengrund 7, 99999 Erlenbruck", "Radiologie Haus 3",
        "EBKCT01", "+49 30 23125", ("Sternmoos^Friedegund", "Habichtsthal^Ottokar", "Rabenkiel^Liselotte"),
    ),
    Hospital(
        "WMR", "WMR-EPR", "Wintermere Royal Infirmary", "1 Foxglove Parade, Wintermere ZZ99 4AB", "Imaging",
        "WMRCT07", "01632 960", ("Thornapple^Cuthbert", "Peasegood^Araminta", "Clutterbridge^Enid"),
    ),
    Hospital(
        "PLS", "PLS-ADT", "Palisade County Medical Center", "400 Juniper Loop, Palisade, XX 00501",
        "Radiology East", "PLS_CT_B", "(555) 555-01",
        ("Quartermaine^Delphine", "Ostrowick^Barnaby", "Fairwater^June"),
    ),
)  # fmt: skip

_FAMILIES = (
    "Wacholderstrauch", "Brambleworth", "Sandpiperson", "Zaunkoenigin", "Mallowgrave", "Tanglebrook",
    "Feldlerchner", "Hollyhurstle", "Copperbeech", "Dachsbauer", "Sedgewhistle", "Lanternbury",
    "Moosglockner", "Plovergate", "Driftwoodson", "Eisvogelsang", "Cloverfenn", "Birchmantle",
    "Schilfrohrer", "Starlingham", "Amberfield", "Kranichmoor", "Willowbeck", "Pinecrestle",
    "Distelfinker", "Heronsgaite", "Saltmarshal", "Ackerwinde", "Thimblewood", "Ravenscarr",
)  # fmt: skip
_GIVEN_F = ("Adelgunde", "Philippa", "Rosamund", "Kunigunde", "Henrietta", "Marigold", "Theodora", "Winifred")
_GIVEN_M = ("Leopold", "Barnabas", "Eustace", "Hartmut", "Ambrose", "Thaddeus", "Florian", "Cornelius")
_OCCUPATIONS = ("ferry warden", "clockmaker", "beekeeper", "organ tuner", "cartographer", "glassblower")
_STREETS = ("Lavender Steps", "Nightingale Wharf", "Old Tannery Row", "Haselnussweg", "Orchard Terrace")

FAMOUS: dict[str, tuple[str, str, str | list[str]]] = {
    "umlauts": ("Büßow-Grünäcker^Jürgen", "M", "ISO_IR 100"),
    "utf8": ("Źdźbłowska^Łucja", "F", "ISO_IR 192"),
    "cyrillic": ("Журавлёва^Надежда", "F", "ISO_IR 144"),
    "japanese": ("Kirishima^Honoka=霧嶋^穂香=きりしま^ほのか", "F", ["", "ISO 2022 IR 87"]),
}
"""Names that need a character set of their own."""


def invent(number: int, rng: np.random.Generator) -> Person:
    """Invent the patient of a number; equal numbers with equal generators are equal patients."""
    hospital = HOSPITALS[number % len(HOSPITALS)]
    sex = "F" if rng.random() < 0.5 else "M"
    given = str(rng.choice(_GIVEN_F if sex == "F" else _GIVEN_M))
    family = _FAMILIES[number % len(_FAMILIES)]
    birth_family = _FAMILIES[(number * 7 + 11) % len(_FAMILIES)]
    age = int(rng.integers(45, 84))
    digits = rng.integers(0, 10, 40)
    return Person(
        hospital=hospital,
        patient_id=f"{hospital.site}{'-' if number % 2 else ''}{_digits(digits, 0, 4)}{number:03d}",
        name=f"{family}^{given}",
        birth_name=f"{birth_family}^{given}",
        sex=sex,
        birth_date=f"{2024 - age}{rng.integers(1, 13):02d}{rng.integers(1, 29):02d}",
        age_years=age,
        phone=f"{hospital.phone_prefix}{_digits(digits, 4, 3)}",
        address=f"{rng.integers(2, 180)} {rng.choice(_STREETS)}, {hospital.address.split(', ', 1)[1]}",
        mrn=f"MRN{_digits(digits, 8, 8)}",
        accession=f"ACC{_digits(digits, 16, 9)}",
        insurance=f"INS-{_digits(digits, 25, 8)}",
        admission=f"V{_digits(digits, 32, 8)}",
        occupation=str(rng.choice(_OCCUPATIONS)),
    )


def renamed(person: Person, famous: str) -> Person:
    """Give a patient one of the names that need a character set of their own."""
    name, sex, character_set = FAMOUS[famous]
    return replace(person, name=name, sex=sex, character_set=character_set)


def _digits(digits: np.ndarray, start: int, count: int) -> str:
    return "".join(str(digit) for digit in digits[start : start + count])
