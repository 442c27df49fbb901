"""The text of program messages: mnemonics, placeholders, layout, markers."""

import pytest

from keras_mtl.data.corpora import message_text


@pytest.mark.parametrize(
    ("source", "target", "cleaned"),
    [
        # Mnemonics.
        ("_File", "_Fichier", ("File", "Fichier")),
        ("_Add to Bookmarks", "A_jouter aux signets", ("Add to Bookmarks", "Ajouter aux signets")),
        ("E_xit", "_Quitter", ("Exit", "Quitter")),
        ("_Open", "開く(_O)", ("Open", "開く")),
        ("&Edit", "&Bearbeiten", ("Edit", "Bearbeiten")),
        ("Save &As…", "Enregistrer &sous…", ("Save As…", "Enregistrer sous…")),
        ("E&xit", "Вы&ход", ("Exit", "Выход")),
        ("_Menu", "_Menü", ("Menu", "Menü")),
        ("_Zoom", "_Zoom là", ("Zoom", "Zoom là")),
        ("&Cut && Paste", "&Couper && coller", ("Cut & Paste", "Couper & coller")),
        # What looks like one and is not.
        ("Audio & Video", "Audio & vidéo", ("Audio & Video", "Audio & vidéo")),
        ("use AT&T syntax", "syntaxe AT&T", ("use AT&T syntax", "syntaxe AT&T")),
        ("R&amp;D", "R&amp;D ici", ("R&amp;D", "R&amp;D ici")),
        ("table_name", "nom_table", ("table_name", "nom_table")),
        ("Invalid record_size", "record_size invalide", "same"),
        ("Bad _gp in the table", "Mauvais _gp dans la table", "same"),
        ("Usage: %s variable_name", "Usage : %s nom_de_variable", "same"),
        ("Drag&Drop it", "Drag&Drop à faire", "same"),
        ("NO_COLOR is set", "NO_COLOR est défini", ("NO_COLOR is set", "NO_COLOR est défini")),
        ("if a && b", "si a && b", ("if a && b", "si a && b")),
        # Placeholders.
        ("%s of %d", "%2$d: %1$s", ("%s of %d", "%2$d: %1$s")),
        ("%s and %s", "%s", "placeholders"),
        ("{name} here", "{nom} ici", "placeholders"),
        ("{name}", "{name} de {name}", ("{name}", "{name} de {name}")),
        ("%(n)d days", "%(n)d jours", ("%(n)d days", "%(n)d jours")),
        ("%1 of %2", "%2 : %1", ("%1 of %2", "%2 : %1")),
        ("%#<PRIx64> in %s", "%2$s : %1$#<PRIx64>", ("%#<PRIx64> in %s", "%2$s : %1$#<PRIx64>")),
        ("at %#<PRIx64>", "à %<PRIx64>", "placeholders"),
        ("%<n>d in %<s>s", "%<s>s : %<n>d", ("%<n>d in %<s>s", "%<s>s : %<n>d")),
        ("${x} ok", "ok", "placeholders"),
        ("50% off", "50 % de rabais", ("50% off", "50 % de rabais")),
        ("100%% sure", "sûr", ("100%% sure", "sûr")),
        ("One file", "%d fichier", "placeholders"),
        # Line breaks and layout.
        ("wrapped\nline.\n", "ligne\ncoupée.\n", ("wrapped line.", "ligne coupée.")),
        ("Old style.  Two spaces.", "Deux.  Oui.", ("Old style.  Two spaces.", "Deux.  Oui.")),
        ("  -v, --verbose   say more", "  -v, --verbose   parle", "layout"),
        ("a\tb", "c\td", "layout"),
        ("one\ntwo\nthree\nfour\nfive", "x", "layout"),
        ("Usage:\n  -x  do it", "Usage :\n  -x  fais-le", "layout"),
        # Contexts in the text, credits, nothing.
        ("keyboard label|Alt", "Alt", ("Alt", "Alt")),
        ("a|b", "x|y", ("a|b", "x|y")),
        ("translator-credits", "Some One", "credits"),
        ("Yes", "", "untranslated"),
    ],
)
def test_text_of_messages(source, target, cleaned):
    if cleaned == "same":
        cleaned = (source, target)
    assert message_text.clean_pair(source, source, target) == cleaned
