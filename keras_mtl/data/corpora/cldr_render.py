"""Renders the trees of `cldr_content` in a locale, using only CLDR's patterns.

Babel's formatting functions look everything up at each call. This module compiles each pattern once
into literals and tables, whose entries come from Babel's formatter. This is several times faster;
the tests compare the results with Babel's functions.
"""

import datetime
import functools
import itertools
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from babel import Locale, dates
from babel.core import get_global

from keras_mtl.data.corpora import cldr_content
from keras_mtl.data.corpora.cldr_content import (
    DAY,
    HOUR,
    MINUTE,
    MONTH,
    SECOND,
    WEEKDAY,
    YEAR,
    Node,
)

# The field letters of CLDR patterns that are used, and the value each depends on. Weeks are
# omitted, because their numbers depend on the country.
_FIELD_VALUES = {
    **dict.fromkeys("yu", YEAR),
    **dict.fromkeys("MLQq", MONTH),
    "d": DAY,
    **dict.fromkeys("Ec", WEEKDAY),
    **dict.fromkeys("Hhkab", HOUR),
    "m": MINUTE,
    "s": SECOND,
}

# The stand-alone forms of months, weekdays and quarters, and the forms inside a date.
_INSIDE_FORM = {"L": "M", "c": "E", "q": "Q"}

_ROOT = Locale("root")

_Part = str | tuple[int, Mapping[int, str]]


class MissingDataError(Exception):
    """The locale has no data for the content."""


class _Table(dict[Any, Any]):
    def __missing__(self, key: Any) -> Any:
        raise MissingDataError(key)


def _samples(value: int) -> dict[int, datetime.datetime]:
    """Returns a moment for each value that a field may depend on."""
    if value == YEAR:
        years = range(cldr_content.FIRST_YEAR, cldr_content.LAST_YEAR + 1)
        return {year: datetime.datetime(year, 7, 1) for year in years}
    if value == MONTH:
        return {month: datetime.datetime(2001, month, 1) for month in range(1, 13)}
    if value == DAY:
        return {day: datetime.datetime(2001, 1, day) for day in range(1, 32)}
    if value == WEEKDAY:  # 2001-01-01 was a Monday.
        return {day: datetime.datetime(2001, 1, 1 + day) for day in range(7)}
    if value == HOUR:
        return {hour: datetime.datetime(2001, 1, 1, hour, 30) for hour in range(24)}
    if value == MINUTE:
        return {minute: datetime.datetime(2001, 1, 1, 1, minute) for minute in range(60)}
    return {second: datetime.datetime(2001, 1, 1, 1, 1, second) for second in range(60)}


class Renderer:
    """Renders trees in one locale.

    Args:
        locale: a Babel locale.
    """

    def __init__(self, locale: Locale) -> None:
        self.locale = locale
        self._fields: dict[str, Mapping[int, str] | None] = {}
        self._compiled: dict[str, list[_Part] | None] = {}
        symbols = locale.number_symbols["latn"]
        self._group, self._decimal = symbols["group"], symbols["decimal"]
        self._grouping = locale.decimal_formats[None].grouping
        self._plural = functools.lru_cache(1 << 16)(self._plural_form)
        self._add_dates_and_times()
        self._add_intervals()
        self._add_units()
        self._add_relative_times()
        self._names = _Table()
        self._add_names()
        self._add_money()
        self._add_zones_and_lists()
        self._methods: dict[str, Callable[..., str]] = {
            "date": self._date,
            "time": self._time,
            "datetime": self._datetime,
            "zoned": self._zoned_time,
            "date_interval": self._date_interval,
            "time_interval": self._time_interval,
            "relative": self._relative,
            "quantity": self._quantity,
            "rate": self._rate,
            "money_name": self._money_name,
            "money_symbol": self._money_symbol,
            "name": self._name,
            "city": self._city,
            "list": self._list,
            "in_parentheses": self._in_parentheses,
        }

    def render(self, node: Node) -> str:
        """Returns the text of a tree.

        Raises:
            MissingDataError: CLDR has no data for it in this locale.
        """
        return self._methods[node[0]](*node[1:])

    def _add_dates_and_times(self) -> None:
        locale = self.locale
        self._dates = _Table()
        for style in cldr_content.DATE_STYLES:
            found = locale.date_formats.get(style) or locale.datetime_skeletons.get(style)
            if found is not None:
                self._add_pattern(self._dates, style, found.pattern)
        self._times = _Table()
        for style in ("short", "medium"):
            self._add_pattern(self._times, style, locale.time_formats[style].pattern)
        self._datetime_glue = {
            width: str(locale.datetime_formats[width]).replace("'", "")
            for width in ("full", "long", "medium", "short")
        }
        full = locale.time_formats["full"].pattern
        self._zoned = _Table()
        if full.count("zzzz") == 1:
            before, after = (self._compile(half) for half in full.split("zzzz"))
            if before is not None and after is not None:
                self._zoned["time"] = (before, after)

    def _add_intervals(self) -> None:
        locale = self.locale
        self._clock = "hm" if "a" in locale.time_formats["short"].pattern else "Hm"
        self._intervals = _Table()
        for skeleton in {self._clock, *itertools.chain(*cldr_content.DATE_INTERVALS.values())}:
            for field, halves in (locale.interval_formats.get(skeleton) or {}).items():
                self._add_interval(skeleton, field, halves)

    def _add_units(self) -> None:
        # A text from the root locale was never translated ("M07", "+3 d").
        root = _ROOT._data["unit_patterns"]
        self._units = _Table()
        for unit, widths in self.locale._data["unit_patterns"].items():
            known = root.get(unit, {})
            short, long = (dict(widths.get(width, {})) for width in ("short", "long"))
            if long.get("other") == known.get("long", {}).get("other"):
                # CLDR's fallback; a symbol ("{0} km") may come from the root locale.
                long = short if short.get("other") != known.get("short", {}).get("other") else {}
            for width, forms in (("short", short), ("long", long)):
                if "other" in forms:
                    self._units[unit, width] = forms
        self._rates = _Table(
            {
                unit: self._units[unit, "long"]["per"]
                for unit in cldr_content.PER_UNITS
                if "per" in self._units.get((unit, "long"), {})
            }
        )

    def _add_relative_times(self) -> None:
        fields, root = self.locale._data["date_fields"], _ROOT._data["date_fields"]
        self._relatives = _Table()
        for unit in cldr_content.RELATIVE_UNITS:
            for tense in ("future", "past"):
                forms = dict(fields.get(unit, {}).get(tense, {}))
                untranslated = root.get(unit, {}).get(tense, {}).get("other")
                if "other" in forms and forms["other"] != untranslated:
                    self._relatives[unit, tense] = forms

    def _add_money(self) -> None:
        data = self.locale._data
        self._currency_forms = {
            code: dict(forms) for code, forms in data["currency_names_plural"].items()
        }
        self._currency_units = dict(data["currency_unit_patterns"])
        self._money = self.locale.currency_formats["standard"]

    def _add_zones_and_lists(self) -> None:
        locale = self.locale
        self._zones = _Table(
            {
                zone: names["long"]["standard"]
                for zone, names in locale.meta_zones.items()
                if "standard" in names.get("long", {})
            }
        )
        self._lists = _Table(
            {
                style: dict(locale.list_patterns[style])
                for style in ("standard", "or")
                if style in locale.list_patterns
            }
        )
        # CLDR's pattern for "London time (United Kingdom)" shows how the locale writes parentheses.
        self._parentheses = (
            locale.zone_formats["fallback"].replace("%(1)s", "{0}").replace("%(0)s", "{1}")
        )

    def _add_names(self) -> None:
        locale = self.locale
        for kind, names in (
            ("territory", locale.territories),
            ("language", locale.languages),
            ("currency", locale.currencies),
        ):
            self._names.update({(kind, code): name for code, name in names.items()})
        for kind, letter in (("month", "L"), ("weekday", "c")):
            texts = self._field(letter, 4) or {}
            self._names.update({(kind, str(code)): name for code, name in texts.items()})

    # Patterns of dates and times.

    def _field(self, letter: str, count: int) -> Mapping[int, str] | None:
        """Returns the text of a field for each of its values; None if the locale has none."""
        name = letter * count
        if name not in self._fields:
            texts = self._field_texts(self.locale, name)
            is_text = letter in "Ec" or (letter in "MLQq" and count >= 3)
            if is_text and self.locale.language != "en" and texts == self._field_texts(_ROOT, name):
                # Stand-alone forms exist only if they differ from those in a date.
                inside = _INSIDE_FORM.get(letter)
                self._fields[name] = self._field(inside, count) if inside else None
            else:
                self._fields[name] = texts
        return self._fields[name]

    @staticmethod
    def _field_texts(locale: Locale, name: str) -> dict[int, str]:
        samples = _samples(_FIELD_VALUES[name[0]])
        return {value: dates.DateTimeFormat(day, locale)[name] for value, day in samples.items()}

    def _compile(self, pattern: str) -> list[_Part] | None:
        """Returns the parts of a pattern, or None if it has an unsupported field."""
        if pattern in self._compiled:
            return self._compiled[pattern]
        parts: list[_Part] = []
        complete = True
        for _, token in dates.tokenize_pattern(pattern):
            if isinstance(token, str):
                parts.append(token)
                continue
            letter, count = token
            table = self._field(letter, count) if letter in _FIELD_VALUES else None
            if table is None:
                complete = False
                break
            parts.append((_FIELD_VALUES[letter], table))
        self._compiled[pattern] = parts if complete else None
        return self._compiled[pattern]

    def _add_pattern(self, table: _Table, key: str, pattern: str) -> None:
        parts = self._compile(pattern)
        if parts is not None:
            table[key] = parts

    def _add_interval(self, skeleton: str, field: str, halves: list[str]) -> None:
        if len(halves) == 2:
            first, last = self._compile(halves[0]), self._compile(halves[1])
            if first is not None and last is not None:
                self._intervals[skeleton, field] = (first, last)

    @staticmethod
    def _apply(parts: list[_Part], values: tuple[int, ...]) -> str:
        return "".join(
            [part if isinstance(part, str) else part[1][values[part[0]]] for part in parts]
        )

    # Nodes.

    def _date(self, style: str, values: tuple[int, ...]) -> str:
        return self._apply(self._dates[style], values)

    def _time(self, style: str, values: tuple[int, ...]) -> str:
        return self._apply(self._times[style], values)

    def _datetime(self, width: str, date: Node, time: Node) -> str:
        glue = self._datetime_glue[width]
        return glue.format(self.render(time), self.render(date))

    def _zoned_time(self, values: tuple[int, ...], zone: str) -> str:
        before, after = self._zoned["time"]
        return self._apply(before, values) + self._zones[zone] + self._apply(after, values)

    def _date_interval(self, skeleton: str, first: tuple[int, ...], last: tuple[int, ...]) -> str:
        field = "y" if first[YEAR] != last[YEAR] else "M" if first[MONTH] != last[MONTH] else "d"
        start, end = self._intervals[skeleton, field]
        return self._apply(start, first) + self._apply(end, last)

    def _time_interval(self, first: tuple[int, ...], last: tuple[int, ...]) -> str:
        if self._clock == "hm":
            half = first[HOUR] // 12 != last[HOUR] // 12
            field = "a" if half else "h" if first[HOUR] != last[HOUR] else "m"
        else:
            field = "H" if first[HOUR] != last[HOUR] else "m"
        start, end = self._intervals[self._clock, field]
        return self._apply(start, first) + self._apply(end, last)

    def number(self, value: int, decimals: int = 0, grouping: tuple[int, int] | None = None) -> str:
        """Returns `value / 10^decimals` in the locale's digits and separators."""
        whole, fraction = divmod(value, 10**decimals) if decimals else (value, 0)
        primary, secondary = grouping or self._grouping
        digits = str(whole)
        groups = []
        size = primary
        while len(digits) > size > 0:
            groups.append(digits[-size:])
            digits = digits[:-size]
            size = secondary
        text = self._group.join([digits, *reversed(groups)])
        return f"{text}{self._decimal}{fraction:0{decimals}d}" if decimals else text

    def _plural_form(self, value: int, decimals: int) -> str:
        number = Decimal(value).scaleb(-decimals) if decimals else value
        return str(self.locale.plural_form(number))

    def _relative(self, unit: str, tense: str, count: int) -> str:
        forms = self._relatives[unit, tense]
        pattern = forms.get(self._plural(count, 0), forms["other"])
        return pattern.replace("{0}", self.number(count))

    def _quantity(self, unit: str, width: str, amount: tuple[int, int]) -> str:
        forms = self._units[unit, width]
        pattern = forms.get(self._plural(*amount), forms["other"])
        return pattern.replace("{0}", self.number(*amount))

    def _rate(self, per: str, quantity: Node) -> str:
        return self._rates[per].replace("{0}", self.render(quantity))

    def _money_name(self, code: str, amount: tuple[int, int]) -> str:
        plural = self._plural(*amount)
        forms = self._currency_forms.get(code, {})
        name = forms.get(plural) or forms.get("other") or self._names["currency", code]
        pattern = self._currency_units.get(plural) or self._currency_units["other"]
        return pattern.format(self.number(*amount), name)

    def _money_symbol(self, code: str, amount: tuple[int, int]) -> str:
        symbol = self.locale.currency_symbols.get(code, code)
        prefix, suffix = self._money.prefix[0], self._money.suffix[0]
        number = self.number(*amount, grouping=self._money.grouping)
        return (prefix + number + suffix).replace("¤", symbol)

    def _name(self, kind: str, code: str) -> str:
        return self._names[kind, code]

    def _city(self, zone: str) -> str:
        names = self.locale.time_zones.get(zone, {})
        if "city" in names:
            return names["city"]
        # CLDR names a city only if the identifier of its zone is not enough.
        if self._latin:
            return zone.rpartition("/")[2].replace("_", " ")
        raise MissingDataError(zone)

    @functools.cached_property
    def _latin(self) -> bool:
        script = self.locale.script
        if script is None:
            tag = get_global("likely_subtags").get(str(self.locale).split("_")[0], "")
            script = next((part for part in tag.split("_") if len(part) == 4), "Latn")
        return script == "Latn"

    def _list(self, style: str, nodes: tuple[Node, ...]) -> str:
        patterns = self._lists[style]
        texts = [self.render(node) for node in nodes]
        if len(texts) == 2:
            return patterns["2"].format(*texts)
        text = patterns["start"].format(texts[0], texts[1])
        for middle in texts[2:-1]:
            text = patterns["middle"].format(text, middle)
        return patterns["end"].format(text, texts[-1])

    def _in_parentheses(self, outside: Node, inside: Node) -> str:
        return self._parentheses.format(self.render(outside), self.render(inside))
