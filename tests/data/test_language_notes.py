"""Which language codes of tasks `inspect` questions, and which it leaves in peace."""

import pytest

from keras_mtl.data.language_notes import Direction, language_notes


def notes(*pairs):
    return language_notes(Direction(f"{a}-{b}", a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("code", "usual"),
    [
        ("FR", "fr"),
        ("fr-FR", "fr"),
        ("fr_FR.UTF-8", "fr"),
        ("de_DE", "de"),
        ("iw", "he"),
        ("eng", None),
        ("fra", "fr"),
        ("PT-br", "pt-BR"),
    ],
)
def test_an_unusual_spelling_is_questioned(code, usual):
    found = notes(("es", code))
    usual = usual or "en"
    assert found == [
        f"{code!r} (task es-{code}): the usual code is {usual!r}; write it in every task of this "
        "language"
    ]


@pytest.mark.parametrize(
    "code",
    ["fr", "pt-BR", "pt_BR", "zh-Hans", "zh_CN", "en-GB", "en_formal", "sr@latin", "nb", "no",
     "yue", "es-419", "ca@valencia"],
)  # fmt: skip
def test_usual_codes_are_not(code):
    assert notes(("uk", code)) == []


@pytest.mark.parametrize(
    ("code", "hint"), [("xx", "."), ("english", "; did you mean 'en'?"), ("ui", ".")]
)
def test_what_is_not_a_language_is_questioned(code, hint):
    (note,) = notes((code, "fr"))
    assert note.startswith(f"{code!r} (task {code}-fr): not a known language code{hint} Codes are")
    assert "one of your own is fine" in note


@pytest.mark.parametrize("target", ["en", "EN", "eng"])
def test_a_task_into_its_own_language_is_questioned(target):
    note = notes(("en", target))[0]
    assert note.startswith(f"task en-{target}: source 'en' and target {target!r} are one language")


def test_translating_between_varieties_is_not():
    assert notes(("en-GB", "en-US"), ("zh-Hans", "zh-Hant"), ("de", "de_simple")) == []


@pytest.mark.parametrize("codes", [("pt-BR", "pt_BR"), ("no", "nb"), ("sr@latin", "sr-Latn")])
def test_two_spellings_of_a_language_are_questioned(codes):
    left, right = codes
    (note,) = notes(("en", left), ("en", right))
    assert note == (
        f"{left!r} (task en-{left}) and {right!r} (task en-{right}) are one language, but each "
        "target code gets its own tag; write one of them everywhere"
    )


def test_many_tasks_have_one_note_of_a_code():
    found = notes(*(("EN", target) for target in ("fr", "de", "es", "it", "ca")))
    assert found == [
        "'EN' (tasks EN-fr, EN-de, EN-es and 2 more): the usual code is 'en'; write it in every "
        "task of this language"
    ]
