"""Invented people: names that no dictionary has, and everything a hospital knows about them.

All from one seed; the same seed gives the same people.
"""

import random
from dataclasses import dataclass, field

_FIRST = (
    "Bram",
    "Quill",
    "Thorn",
    "Wex",
    "Ald",
    "Mor",
    "Sel",
    "Tarn",
    "Ven",
    "Ost",
    "Krag",
    "Lum",
    "Pel",
    "Drav",
)
_LAST = (
    "bywick",
    "mereth",
    "garde",
    "hollis",
    "fenzig",
    "quist",
    "lowna",
    "strand",
    "vatter",
    "nolber",
    "zeller",
)
_GIVEN = (
    "Ysolde",
    "Corbin",
    "Thessaly",
    "Ambrus",
    "Wilmot",
    "Perpetua",
    "Lisbeth",
    "Oswin",
    "Ignaz",
    "Radegund",
)
_STREETS = ("Gallowmere Lane", "Tuppenny Row", "Saltpetre Hill", "Fiddlewood Close", "Ropewalk Terrace")


@dataclass(frozen=True)
class Person:
    """One invented patient with one study's worth of identifiers."""

    family: str
    given: str
    patient_id: str
    issuer: str
    birth_date: str
    sex: str
    age: str
    name: str = ""
    """PatientName as written; family^given where empty."""
    charset: str | tuple[str, ...] | None = "ISO_IR 192"
    tokens: dict[str, str] = field(default_factory=dict)
    """Further identifiers by kind; each is a leak where it turns up in released output."""
    key: str = ""
    """Who this is, whatever the spelling of the PatientID."""

    @property
    def written_name(self) -> str:
        return self.name or f"{self.family}^{self.given}"

    def secrets(self) -> dict[str, str]:
        """Return every token by kind."""
        return {
            "family name": self.family,
            "patient id": self.patient_id.strip(),
            "birth date": self.birth_date,
            **self.tokens,
        }


class People:
    """A source of invented people."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(f"people {seed}")
        self._names: set[str] = set()

    def person(self, **given: object) -> Person:
        """Return a new person; anything given is taken over."""
        pick = self.random
        family = next(
            name
            for name in iter(lambda: pick.choice(_FIRST) + pick.choice(_LAST), "")
            if name not in self._names
        )
        self._names.add(family)
        number = pick.randrange(10**6, 10**7)
        tokens = {
            "other patient id": f"MRN{pick.randrange(10**7, 10**8)}",
            "accession number": f"ACC{pick.randrange(10**8, 10**9)}",
            "visit id": f"V{pick.randrange(10**7, 10**8)}",
            "request id": f"RQ{pick.randrange(10**7, 10**8)}",
            "insurance": f"INS-{pick.randrange(10**9, 10**10)}",
            "phone": f"01632 {pick.randrange(960000, 961000)}",
            "street": f"{pick.randrange(2, 199)} {pick.choice(_STREETS)}",
            "birth name": pick.choice(_FIRST) + "ower" + pick.choice(_LAST),
            "physician": pick.choice(_FIRST) + "inger" + pick.choice(_LAST),
            "operator": pick.choice(_FIRST) + "ock" + pick.choice(_LAST),
            "institution": f"{pick.choice(_FIRST)}haven Infirmary",
            "station": f"{pick.choice(_FIRST).upper()}CT{pick.randrange(100, 1000)}",
            "device serial number": f"SN{pick.randrange(10**6, 10**7)}",
            "study id": f"S{pick.randrange(10**5, 10**6)}",
        }
        year = pick.randrange(1945, 1985)
        facts: dict[str, object] = {
            "family": family,
            "given": pick.choice(_GIVEN),
            "patient_id": f"{pick.choice(('HX', 'QF', 'ZK'))}{number}",
            "issuer": "SALTHAVEN-PAS",
            "birth_date": f"{year}{pick.randrange(1, 13):02d}{pick.randrange(1, 29):02d}",
            "sex": pick.choice("MF"),
            "age": f"{2020 - year:03d}Y",
            "tokens": tokens,
        }
        facts.update(given)
        facts.setdefault("key", facts["patient_id"])
        return Person(**facts)  # type: ignore[arg-type]
