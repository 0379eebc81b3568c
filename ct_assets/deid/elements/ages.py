"""Ages in text: where a text gives an age above the highest that is revealed.

Belongs here: how ages are written (`93yo`, `F93`, `age: 093Y`, `93-jährig`, `1116 months`). Does not: ages in AS
(`values`). Ages at or below the cap stay: the profile keeps them (PS3.15 113108; 45 CFR 164.514(b)(2)(i)(C)).
"""

import re
from collections.abc import Iterable, Iterator

from ct_assets.deid.elements.dates import Day, Span, _flat

OLDEST = 130
_YEARS = (
    r"(?:y(?:/?o|rs?|ears?|r)?\.?(?:[\s-]?o(?:ld|\.)?)?|j(?:\.|ahre?n?|aehrige?r?|ahrige?r?|r)?|a(?:ns?|nni|nos|os)?|jaar|jarige?"
    r"|lat|letn\w{1,3}|let|leta|rokov|ar|ars|arig|vuotta|v(?:uotias)?|eves|ev|yas\w{0,4}|лет|года?|г|годин|ετων|ani|aastat?"
    r"|歳|才|岁|周岁|歲|세|살)"
)
_WITH_UNIT = re.compile(rf"(?<!\d)0{{0,2}}(\d{{2,3}})(?!\d)[\s_-]{{0,2}}{_YEARS}(?![^\W\d_])")
_AFTER_WORD = re.compile(
    r"(?<![^\W\d_])(?:aged?|alter|edad|eta|idade|leeftijd|wiek|vek|alder|alde?r|ika|yas|age|возраст|ηλικια|年齢|年龄|나이)"
    r"[\s:=_-]{0,3}0{0,2}(\d{2,3})(?!\d)"
)
_BESIDE_SEX = re.compile(
    r"(?<![^\W\d_])(?:[mfwhvk]|male|female|man|woman)[\s/_-]{0,1}0?(\d{2,3})(?![\d.])(?!\s?(?:kv|mm|cm|hu|ml|gy|cgy|%))"
    r"|(?<![^\W_])0?(\d{2,3})[\s/_-]{0,1}(?:[fwhk]|m|male|female|man|woman|mann|frau)(?![^\W_])"
)
_WITH_UNIT_AND_SEX = re.compile(r"(?<![^\W_])0?(\d{2,3})\s?[yja][\s/_-]?[mfwhkd](?![^\W_])")
_ALONE = re.compile(r"(?<![\w.,])0?(\d{2,3})(?![\w.,%]|\s?(?:%|kv|mm|cm|hu|ml|gy|cgy|mas?)(?![^\W_]))")
_MONTHS = re.compile(r"(?<!\d)(\d{4})\s?(?:m|mo|mos|mon|months?|monate?|mois|mesi|meses|mnd)(?![^\W\d_])")
_WORDS = re.compile(r"\b(?:nonagenarian|centenarian|(?:ninety|hundred)(?:[\s-]\w{3,5})?[\s-]years?)\w*")


def spans(text: str, max_years: int, *, beside_sex: bool, own: frozenset[int] = frozenset()) -> list[Span]:
    """Return where ages above `max_years` stand; with `beside_sex` also those that only a sex marks (`F93`), and the
    patient's `own` ages by themselves (`CT (93)`)."""
    flat = _flat(text)
    patterns = [_WITH_UNIT, _AFTER_WORD, _WITH_UNIT_AND_SEX, *([_BESIDE_SEX] if beside_sex else [])]
    found = [
        match.span()
        for pattern in patterns
        for match in pattern.finditer(flat)
        if max_years < int(next(group for group in match.groups() if group)) <= OLDEST
    ]
    if beside_sex and own:
        found += [match.span() for match in _ALONE.finditer(flat) if int(match[1]) in own]
    found += [match.span() for match in _MONTHS.finditer(flat) if max_years < int(match[1]) / 12 <= OLDEST]
    return found + [match.span() for match in _WORDS.finditer(flat)] if max_years < 100 else found


def of_days(births: Iterable[Day], days: Iterable[Day]) -> Iterator[int]:
    """Yield the ages in years that a patient had on days of the record."""
    for birth in births:
        for day in days:
            yield day[0] - birth[0] - (day[1:] < birth[1:])
