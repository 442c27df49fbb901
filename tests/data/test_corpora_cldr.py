"""The built-in corpus: a function of (seed, number), the same in all languages, well said."""

import datetime
import re
from decimal import Decimal

import pytest
from babel import Locale, dates, numbers, units

from keras_mtl import errors
from keras_mtl.data import corpora
from keras_mtl.data.corpora import cldr_content, cldr_render

_LOCALES = ("en", "fr", "de", "es", "gl", "oc", "uk", "ar", "ja", "hi", "pt_PT", "fi")


@pytest.fixture(scope="module")
def renderers():
    return {code: cldr_render.Renderer(Locale.parse(code)) for code in _LOCALES}


def _pairs(source="en", target="fr", pairs=300, **options):
    reader = corpora.create_reader("cldr", source, target, {"pairs": pairs, **options})
    return [(p.source, p.target, p.line) for p in corpora.read_pairs(reader)]


def test_a_pair_depends_on_seed_and_number_alone():
    pairs = _pairs(seed=3)
    assert pairs == _pairs(seed=3)
    assert pairs[:100] == _pairs(seed=3, pairs=100)
    assert pairs != _pairs(seed=4)
    assert len(pairs) == 300


def test_content_is_fixed():
    # Golden values: the figures in configs/ hold for these sentences.
    times = (
        ("time", "short", (2000, 1, 1, 5, 5, 15, 54)),
        ("time", "short", (2000, 1, 1, 5, 1, 45, 40)),
    )
    assert cldr_content.content(0, 1) == ("list", "or", times)


def test_same_number_means_the_same_in_all_languages():
    french = {line: source for source, _, line in _pairs("en", "fr")}
    german = {line: source for source, _, line in _pairs("en", "de")}
    backwards = {line: target for _, target, line in _pairs("fr", "en")}
    between = {line: target for _, target, line in _pairs("en", "de")}
    assert all(french[line] == german[line] for line in french.keys() & german.keys())
    assert backwards == french
    joined = {line: target for _, target, line in _pairs("fr", "de")}
    assert all(joined[line] == between[line] for line in joined.keys() & between.keys())


def test_there_are_enough_different_sources():
    sources = [source for source, _, _ in _pairs(pairs=5000)]
    assert len(set(sources)) > 0.95 * len(sources)
    assert sorted(map(len, sources))[25] >= 4
    assert sorted(map(len, sources))[-25] <= 70


def test_no_pattern_syntax_is_left(renderers):
    for code, renderer in renderers.items():
        said = 0
        for index in range(800):
            try:
                text = renderer.render(cldr_content.content(1, index))
            except cldr_render.MissingDataError:
                continue
            said += 1
            assert text.strip(), (code, index)
            assert not re.search(r"[{}¤\x00]|\bM\d\d\b", text), (code, index, text)
        assert said > 400, code


_DAY = datetime.date(2024, 3, 9)
_VALUES = (2024, 3, 9, 5, 15, 7, 42)


@pytest.mark.parametrize("code", _LOCALES)
def test_against_babel(renderers, code):
    """Oracle: Babel's own formatting functions."""
    render = renderers[code].render
    moment = datetime.datetime(*_VALUES[:3], *_VALUES[4:])
    for style in ("full", "long", "medium", "short"):
        assert render(("date", style, _VALUES)) == dates.format_date(_DAY, style, locale=code)
    for style in ("medium", "short"):
        time = dates.format_time(moment.time(), style, locale=code)
        assert render(("time", style, _VALUES)) == time
        node = ("datetime", style, ("date", style, _VALUES), ("time", style, _VALUES))
        assert render(node) == dates.format_datetime(moment, style, locale=code)
    last = (2024, 5, 1, 2, 0, 0, 0)
    # Arabic and Occitan give no pattern for some of these; Babel then glues two dates together.
    for skeleton in ("yMMMM",) if code in ("ar", "oc") else ("yMMMd", "yMMMEd", "yMMMM"):
        interval = dates.format_interval(_DAY, datetime.date(2024, 5, 1), skeleton, locale=code)
        assert render(("date_interval", skeleton, _VALUES, last)) == interval
    plain = Locale.parse(code).decimal_formats[None].pattern.replace("###", "##")
    for amount in ((1, 0), (2, 0), (5, 0), (21, 0), (1234567, 0), (15, 1), (123456, 2)):
        number = Decimal(amount[0]).scaleb(-amount[1])
        for unit in ("length-kilometer", "length-meter", "mass-gram"):
            expected = units.format_unit(number, unit, "long", locale=code)
            assert render(("quantity", unit, "long", amount)) == expected
        name = numbers.format_currency(
            number, "EUR", locale=code, format_type="name", currency_digits=False, format=plain
        )
        assert render(("money_name", "EUR", amount)) == name
    symbol = numbers.format_currency(Decimal("1234.50"), "EUR", locale=code)
    assert render(("money_symbol", "EUR", (123450, 2))) == symbol
    if code != "oc":  # Occitan's relative times are not translated; Babel takes the root's.
        for days in (1, 3, 21):
            expected = dates.format_timedelta(
                datetime.timedelta(days=days),
                granularity="day",
                threshold=999,
                add_direction=True,
                locale=code,
            )
            assert render(("relative", "day", "future", days)) == expected
    nodes = tuple(("name", "territory", territory) for territory in ("FR", "DE", "IT"))
    names = [Locale.parse(code).territories[territory] for territory in ("FR", "DE", "IT")]
    from babel.lists import format_list

    for count in (2, 3):
        for style in ("standard", "or"):
            expected = format_list(names[:count], style, locale=code)
            assert render(("list", style, nodes[:count])) == expected


def test_untranslated_names_are_not_said(renderers):
    with pytest.raises(cldr_render.MissingDataError):
        renderers["oc"].render(("relative", "day", "future", 3))
    assert renderers["fr"].render(("name", "weekday", "6")) == "dimanche"
    assert (
        renderers["ja"].render(
            ("in_parentheses", ("city", "Europe/Paris"), ("name", "territory", "FR"))
        )
        == "パリ（フランス）"
    )


def test_times(renderers):
    first, last = (2000, 1, 1, 5, 9, 30, 0), (2000, 1, 1, 5, 14, 0, 0)
    node = ("time_interval", first, last)
    texts = {code: " ".join(renderers[code].render(node).split()) for code in ("en", "de", "fr")}
    assert texts == {"en": "9:30 AM – 2:00 PM", "de": "09:30–14:00 Uhr", "fr": "09:30 – 14:00"}
    node = ("zoned", _VALUES, "Europe_Central")
    assert renderers["fr"].render(node) == "15:07:42 heure normale d’Europe centrale"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "xx"}, "no locale for target 'xx'"),
        ({"source": "../etc"}, "no locale for source"),
        ({"target": "en"}, "same locale"),
        ({"pairs": 0}, "pairs is 0"),
        ({"pairs": True}, "pairs is True"),
        ({"seed": "a"}, "seed is 'a'"),
    ],
)
def test_wrong_values(arguments, message):
    with pytest.raises(errors.ConfigError, match=message):
        _pairs(**arguments)


@pytest.mark.parametrize(
    ("code", "suggestion"),
    [
        ("Esperanto", "did you mean 'eo' (Esperanto)?"),
        ("pt-BRR", "did you mean 'pt_BR' (Portuguese (Brazil))?"),
        ("xxxxxxx", "names is similar"),
    ],
)
def test_an_unknown_language_has_a_suggestion(code, suggestion):
    with pytest.raises(
        errors.ConfigError, match=f"CLDR has no locale for target '{code}'"
    ) as found:
        corpora.create_reader("cldr", "en", code, {"pairs": 5})
    assert str(found.value).endswith(suggestion)


def test_a_locale_without_words_is_an_error():
    with pytest.raises(errors.DataError, match="CLDR has too little for 'en' or 'jbo'"):
        _pairs(target="jbo", pairs=2000)


def test_fingerprint_names_the_data():
    reader = corpora.create_reader("cldr", "en", "fr", {"pairs": 5})
    assert {"reader", "options", "babel", "version"} <= reader.fingerprint().keys()
