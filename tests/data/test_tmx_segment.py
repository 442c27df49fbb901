"""Inline elements of TMX segments: which leave a space, and which nothing."""

import pytest

from keras_mtl.data.corpora.tmx_parser import UnitParser


def _text(segment):
    unit = f'<tu><tuv xml:lang="en"><seg>{segment}</seg></tuv></tu>'
    [(language, text)] = UnitParser({"en"}, {}, "utf-8").parse(unit.encode())
    assert language == "en"
    return text


@pytest.mark.parametrize(
    ("segment", "text"),
    [
        # A placeholder separates words, unless something else does.
        ("Click<ph x='1'/>here", "Click here"),
        ("Click<ph>&lt;br/&gt;</ph>here", "Click here"),
        ("Click <ph x='1'/>here", "Click here"),
        ("Click<ph x='1'/> here", "Click here"),
        ("<ph/>Click here<ph/>", "Click here"),
        ("Hello<ph/>, world<ph>%s</ph>!", "Hello, world!"),
        ("l’<ph/>image", "l’image"),
        ("Click<ph/><ph/>here", "Click here"),
        ("Click<bpt i='1'/><ph/><ept i='1'/>here", "Click here"),
        ("Click<ph><sub>An image</sub></ph>here", "Click here"),
        ("10<ph type='fnote'/>20", "10 20"),
        # Formatting begins and ends inside words.
        ("<bpt i='1'>&lt;b&gt;</bpt>C<ept i='1'>&lt;/b&gt;</ept>lick", "Click"),
        ("un<hi type='bold'>believ</hi>able", "unbelievable"),
        ("un<bpt i='1' type='bold'/>believ<ept i='1'/>able", "unbelievable"),
        ("un<it pos='begin'>&lt;i&gt;</it>believable", "unbelievable"),
        ("un<ph>&lt;em&gt;</ph>believ<ph>&lt;/em&gt;</ph>able", "unbelievable"),
        ("un<ph type='bold'/>believ<ph type='fmt'>{}</ph>able", "unbelievable"),
        ("un<ut>{\\b </ut>believ<ut>}</ut>able", "unbelievable"),
        ("un<ut>{\\cs6\\f1 &lt;b&gt;}</ut>believable", "unbelievable"),
        ("H<sub>2</sub>O", "H2O"),
        # OmegaT: formatting, line break, tabulator.
        ("un<bpt i='0' x='0'>&lt;f0&gt;</bpt>believable", "unbelievable"),
        ("Click<ph x='1'>&lt;br1/&gt;</ph>here", "Click here"),
        # Paired codes that begin a block, breaks written otherwise.
        ("One<ept i='1'>&lt;/p&gt;</ept><bpt i='2'>&lt;p&gt;</bpt>Two", "One Two"),
        ("One<it pos='end'>&lt;/td&gt;</it>Two", "One Two"),
        ("One<ut>\\par </ut>Two", "One Two"),
        ("One<ut>{\\line}</ut>Two", "One Two"),
        ("One<ph type='lb'/>Two", "One Two"),
        ("One<bpt i='1'> </bpt>Two", "One Two"),
        ("One<ept i='1'>&lt;/b&gt; </ept>Two", "One Two"),
        ("One<br/>Two<x id='1'/>Three", "One Two Three"),
        ("One<p>Two</p>Three", "One Two Three"),
        ('One<ph>&lt;mq:ch val="\t" /&gt;</ph>Two', "One Two"),
        # Characters that stand inside words.
        ("hyphen<ph>\u00ad</ph>ated", "hyphenated"),
        ("hyphen<ph>&amp;shy;</ph>ated", "hyphenated"),
        ("hyphen<ut>\\-</ut>ated", "hyphenated"),
        ("long<ph>&lt;wbr&gt;</ph>word", "longword"),
        # Scripts without spaces, and one whose words end in marks.
        ("点击<ph/>这里", "点击这里"),
        ("クリック<ph>&lt;br/&gt;</ph>する", "クリックする"),
        ("คลิก<ph/>ที่นี่", "คลิกที่นี่"),
        ("यहाँ<ph/>की", "यहाँ की"),
        ("클릭<ph/>여기", "클릭 여기"),
        # Nested codes and sub-flows belong to the code.
        ("a<ph>&lt;img alt='<sub>x <bpt i='1'>y</bpt> z</sub>'&gt;</ph>b", "a b"),
        ("<ph/>", ""),
        ("", ""),
    ],
)
def test_text_of_a_segment(segment, text):
    assert _text(segment) == text


def test_only_the_first_segment_of_a_variant_counts_and_nothing_around_it():
    unit = (
        "<tu><note>n</note><tuv xml:lang='en'><prop>p</prop><seg>a</seg><seg>b</seg></tuv>"
        "<seg>c</seg><tuv xml:lang='de'><seg>d</seg></tuv><tuv><seg>e</seg></tuv>"
        "<tuv xml:lang='fr'/><tuv xml:lang='fr'><x><seg>f</seg></x></tuv></tu>"
    )
    assert UnitParser({"en", "fr"}, {}, "utf-8").parse(unit.encode()) == [("en", "a")]
