"""The content of the sentences of the built-in corpus: a language-independent tree per number.

`content(seed, index)` draws a tree of nested tuples, such as `("list", "or", (("relative",
"day", "future", 3), ("relative", "week", "future", 2)))`; `cldr_render.Renderer` puts it into
words of a locale ("in 3 days or in 2 weeks", « dans 3 jours ou dans 2 semaines »). A tree is a
function of (seed, index) and of nothing else, so the same index means the same in every language,
and any part of the corpus can be generated without the rest.

What there is to learn: the order and the names of dates, the clock, plural forms, separators of
numbers, units and where their names stand, names of countries, languages, currencies and cities,
conjunctions; and to copy digits.
"""

import datetime
import functools
import hashlib
from collections.abc import Callable
from typing import Any

from babel import Locale, numbers
from babel.core import get_global

Node = tuple[Any, ...]

# Positions in the tuple of values of a date or time.
YEAR, MONTH, DAY, WEEKDAY, HOUR, MINUTE, SECOND = range(7)

FIRST_YEAR, LAST_YEAR = 1900, 2099
_SHORT_YEAR = 2000
_FIRST_DAY = datetime.date(FIRST_YEAR, 1, 1).toordinal()
_DAYS = datetime.date(LAST_YEAR, 12, 31).toordinal() - _FIRST_DAY + 1

DATE_STYLES = (
    *("full", "full", "full", "long", "long", "medium", "medium", "yMMMEd", "yMMMEd"),
    *("short", "MMMMd", "yMMMM", "MMMEd", "yQQQQ"),
)
# By the largest field in which the two dates differ; the last ones have few different texts.
DATE_INTERVALS = {
    "d": ("yMMMd", "yMMMEd", "MMMd"),
    "M": ("yMMMd", "yMMMEd", "MMMd", "yMMMM", "yMMM"),
    "y": ("yMMMd", "yMMMd", "yMMMEd", "yMMMEd", "yMMMM", "yMMM", "y"),
}
RELATIVE_UNITS = (
    *("year", "quarter", "month", "week", "day", "hour", "minute", "second"),
    *("mon", "tue", "wed", "thu", "fri", "sat", "sun"),
)
# Denominators that fit any unit: "3 liters per hour".
PER_UNITS = (
    *("duration-second", "duration-minute", "duration-hour", "duration-day", "duration-week"),
    *("length-kilometer", "length-meter", "mass-kilogram", "volume-liter"),
)
# Omitted: units without everyday use, and units whose pattern contains another number.
_UNIT_GROUPS = (
    *("angle", "area", "digital", "duration", "electric", "energy", "frequency", "length"),
    *("mass", "power", "pressure", "speed", "temperature", "volume"),
)
# What is counted by the hour or the kilometer.
_RATE_GROUPS = ("digital", "energy", "length", "mass", "volume")


class Draw:
    """Numbers from one 512-bit hash of (seed, index), by repeated division.

    A draw below n is biased by less than n / 2^200 as long as the divisors' product stays below
    2^312; the largest tree takes about 250 bits.
    """

    __slots__ = ("_value",)

    def __init__(self, seed: int, index: int) -> None:
        self._value = int.from_bytes(hashlib.blake2b(b"%d %d" % (seed, index)).digest(), "little")

    def below(self, n: int) -> int:
        """Returns an integer in [0, n)."""
        self._value, rest = divmod(self._value, n)
        return rest


class Pools:
    """The names in trees: those of the English CLDR data, sorted by code."""

    def __init__(self) -> None:
        english = Locale("en")
        territories = map(str, english.territories)
        languages = map(str, english.languages)
        self.names: dict[str, tuple[str, ...]] = {
            # Countries and dependencies: three-digit codes are continents, ZZ is "unknown".
            "territory": tuple(
                sorted(c for c in territories if c.isalpha() and len(c) == 2 and c != "ZZ")
            ),
            # Two-letter codes are the languages that most locales name.
            "language": tuple(sorted(c for c in languages if len(c) == 2)),
            "month": tuple(str(month) for month in range(1, 13)),
            "weekday": tuple(str(day) for day in range(7)),
        }
        current = sorted(
            # Parentheses mark a currency of the past ("German mark (1948–2002)") or a special one.
            code
            for code, name in english.currencies.items()
            if "(" not in name and code != "XXX"
        )
        self.names["currency"] = tuple(current)
        # Currencies that have a sign in English instead of a code.
        self.symbols = tuple(
            code
            for code, symbol in sorted(english.currency_symbols.items())
            if code in current and not symbol.isalpha()
        )
        self.precision = {code: numbers.get_currency_precision(code) for code in current}
        self.units = tuple(
            sorted(
                unit
                for unit in english._data["unit_patterns"]
                if unit.split("-")[0] in _UNIT_GROUPS
                and "-per-" not in unit
                and not unit.endswith("-person")  # A person's age, expressed as a duration.
            )
        )
        self.measured = tuple(unit for unit in self.units if unit.split("-")[0] in _RATE_GROUPS)
        self.zones = tuple(
            sorted(
                name for name, names in english.meta_zones.items() if "standard" in names["long"]
            )
        )
        countries = get_global("zone_territories")
        self.cities = tuple(
            (zone, countries[zone])
            for zone in sorted(countries)
            if zone.count("/") == 1 and countries[zone] in self.names["territory"]
        )


@functools.cache
def pools() -> Pools:
    """Returns the pools, made at the first call (about 0.1 s)."""
    return Pools()


def _date_values(draw: Draw) -> tuple[int, ...]:
    day = datetime.date.fromordinal(_FIRST_DAY + draw.below(_DAYS))
    return day.year, day.month, day.day, day.weekday(), 0, 0, 0


def _time_values(draw: Draw) -> tuple[int, ...]:
    # Half of the times are on a quarter of an hour, as people usually say them.
    minute = draw.below(60) if draw.below(2) else 15 * draw.below(4)
    return 2000, 1, 1, 5, draw.below(24), minute, draw.below(60)


def _styled_date(draw: Draw, style: str) -> Node:
    values = _date_values(draw)
    if style == "short":
        # Two digits of the year in some locales and four in others: only one century is certain.
        year = _SHORT_YEAR + values[YEAR] % 100
        day = min(values[DAY], 28)
        values = (
            year,
            values[MONTH],
            day,
            datetime.date(year, values[MONTH], day).weekday(),
            0,
            0,
            0,
        )
    return "date", style, values


def _date(draw: Draw) -> Node:
    return _styled_date(draw, DATE_STYLES[draw.below(len(DATE_STYLES))])


def _time(draw: Draw) -> Node:
    return "time", ("short", "short", "medium")[draw.below(3)], _time_values(draw)


def _date_and_time(draw: Draw) -> Node:
    width = ("full", "long", "medium", "short")[draw.below(4)]
    return "datetime", width, _styled_date(draw, width), _time(draw)


def _time_in_zone(draw: Draw) -> Node:
    zones = pools().zones
    return "zoned", _time_values(draw), zones[draw.below(len(zones))]


def _date_interval(draw: Draw) -> Node:
    start = _FIRST_DAY + draw.below(_DAYS - 4000)
    gap = 1 + draw.below((12, 60, 400, 3900)[draw.below(4)])
    first, last = datetime.date.fromordinal(start), datetime.date.fromordinal(start + gap)
    styles = DATE_INTERVALS[
        "y" if first.year != last.year else "M" if first.month != last.month else "d"
    ]
    return (
        "date_interval",
        styles[draw.below(len(styles))],
        (first.year, first.month, first.day, first.weekday(), 0, 0, 0),
        (last.year, last.month, last.day, last.weekday(), 0, 0, 0),
    )


def _time_interval(draw: Draw) -> Node:
    first, last = sorted((_time_values(draw), _time_values(draw)))
    return "time_interval", first, last


def _count(draw: Draw, digits: int) -> int:
    return 1 + draw.below(10 ** (1 + draw.below(digits)))


def _amount(draw: Draw) -> tuple[int, int]:
    """Returns (value * 10^decimals, decimals); the decimals are not all zero."""
    if draw.below(3):
        return _count(draw, 5), 0
    decimals = 1 + draw.below(2)
    return _count(draw, 3) * 10**decimals + 1 + draw.below(10**decimals - 1), decimals


def _relative(draw: Draw) -> Node:
    unit = RELATIVE_UNITS[draw.below(len(RELATIVE_UNITS))]
    return "relative", unit, ("future", "past")[draw.below(2)], _count(draw, 2)


def _quantity(draw: Draw) -> Node:
    units = pools().units
    width = ("long", "long", "short")[draw.below(3)]
    return "quantity", units[draw.below(len(units))], width, _amount(draw)


def _rate(draw: Draw) -> Node:
    units = pools().measured
    quantity = ("quantity", units[draw.below(len(units))], "long", _amount(draw))
    return "rate", PER_UNITS[draw.below(len(PER_UNITS))], quantity


def _money(draw: Draw) -> Node:
    if draw.below(2):
        codes = pools().names["currency"]
        return "money_name", codes[draw.below(len(codes))], _amount(draw)
    symbols = pools().symbols
    code = symbols[draw.below(len(symbols))]
    decimals = pools().precision[code]
    return "money_symbol", code, (draw.below(10 ** (2 + draw.below(6) + decimals)), decimals)


# Weights: names have the longest tail and need the most room.
_NAME_KINDS = (
    *("territory",) * 9,
    *("language",) * 7,
    *("currency",) * 6,
    *("month", "weekday"),
)


def _name(draw: Draw) -> Node:
    kind = _NAME_KINDS[draw.below(len(_NAME_KINDS))]
    names = pools().names[kind]
    return "name", kind, names[draw.below(len(names))]


def _names(draw: Draw) -> Node:
    kind = _NAME_KINDS[draw.below(len(_NAME_KINDS))]
    names = pools().names[kind]
    size = len(names)
    # Steps of at most half a round each keep the three names distinct.
    first = draw.below(size)
    second = first + 1 + draw.below(size // 2)
    places = [first, second]
    if draw.below(2):
        places.append(second + 1 + draw.below((size - 1) // 2 - 1))
    nodes = tuple(("name", kind, names[place % size]) for place in places)
    return "list", ("standard", "or")[draw.below(2)], nodes


_ITEMS: tuple[Callable[[Draw], Node], ...] = (_relative, _quantity, _money, _date, _time)


def _items(draw: Draw) -> Node:
    make = _ITEMS[draw.below(len(_ITEMS))]
    return "list", ("standard", "or")[draw.below(2)], (make(draw), make(draw))


def _city(draw: Draw) -> Node:
    zone, territory = pools().cities[draw.below(len(pools().cities))]
    return "in_parentheses", ("city", zone), ("name", "territory", territory)


def _remark(draw: Draw) -> Node:
    """Returns a tree of something with a remark in parentheses."""
    kind = draw.below(4)
    if kind == 0:
        return "in_parentheses", _date(draw), _relative(draw)
    if kind == 1:
        return "in_parentheses", _name(draw), _quantity(draw)
    if kind == 2:
        return "in_parentheses", _name(draw), _money(draw)
    return "in_parentheses", _name(draw), _date(draw)


# Kind of sentence and weight. Plain names and cities are few, so they get little.
_KINDS: tuple[Callable[[Draw], Node], ...] = (
    *(_date,) * 10,
    *(_date_and_time,) * 12,
    *(_time_in_zone,) * 3,
    *(_date_interval,) * 10,
    *(_time_interval,) * 4,
    *(_relative,) * 1,
    *(_quantity,) * 8,
    *(_rate,) * 5,
    *(_money,) * 8,
    *(_name,) * 1,
    *(_names,) * 14,
    *(_items,) * 13,
    *(_city,) * 1,
    *(_remark,) * 10,
)


def content(seed: int, index: int) -> Node:
    """Returns the content of pair `index`.

    Args:
        seed: seed of the corpus, any integer.
        index: number of the pair, >= 0.
    """
    draw = Draw(seed, index)
    return _KINDS[draw.below(len(_KINDS))](draw)
