"""Coded concepts: scheme, value and meaning (PS3.3 section 8)."""

from dataclasses import dataclass

from pydicom.dataset import Dataset


@dataclass(frozen=True, slots=True)
class Code:
    """One code of a terminology."""

    scheme: str
    value: str
    meaning: str

    @classmethod
    def first_of(cls, item: Dataset, keyword: str) -> "Code | None":
        """Return the first code of a code sequence, or None where there is none."""
        sequence = item.get(keyword)
        if not sequence:
            return None
        code = sequence[0]
        value = code.get("CodeValue") or code.get("LongCodeValue") or code.get("URNCodeValue") or ""
        scheme = code.get("CodingSchemeDesignator") or ""
        return cls(str(scheme).strip(), str(value).strip(), str(code.get("CodeMeaning") or "").strip())

    def as_dict(self) -> dict[str, str]:
        """Return the code as JSON holds it."""
        return {"scheme": self.scheme, "value": self.value, "meaning": self.meaning}
