"""The documentation site: builds without warnings, needs no network, shows the public API."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

import keras_mtl

ROOT = pathlib.Path(__file__).parents[1]
API = ROOT / "docs" / "reference" / "api"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The directory of the built site."""
    directory = tmp_path_factory.mktemp("site")
    # Not with --quiet, which hides warnings from --strict.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    done = subprocess.run(
        [*command, "--site-dir", str(directory)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return directory


def test_no_page_needs_a_network(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    loaded = r'<(?:script|img|iframe)[^>]*\ssrc="?(https?:)?//|<link[^>]*\shref="?(https?:)?//'
    for page in pages:
        text = page.read_text(encoding="utf-8")
        # The address of the page itself is the only link in the head that may be absolute.
        text = re.sub(r'<link rel="?canonical"?[^>]*>', "", text)
        assert not re.search(loaded, text), page
    assert "iframe-worker" in (site / "index.html").read_text(encoding="utf-8")
    assert (site / "search" / "search_index.js").stat().st_size > 100_000


def test_every_public_name_is_in_the_reference_once():
    shown = [
        name
        for page in sorted(API.glob("*.md"))
        for name in re.findall(r"^::: keras_mtl\.(\w+)$", page.read_text(encoding="utf-8"), re.M)
    ]
    assert sorted(shown) == sorted(set(keras_mtl.__all__) - {"__version__"})


def test_the_reference_shows_docstrings(site):
    page = (site / "reference" / "api" / "mixtures.html").read_text(encoding="utf-8")
    assert 'id="keras_mtl.Mixture"' in page
    assert keras_mtl.Mixture.__doc__.splitlines()[0] in page
    assert "granularity" in page


def test_the_reference_of_commands_shows_their_help(site):
    page = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert "&lt;!-- help" not in page
    assert "<!-- help" not in page
    for option in ("--params_override", "--checkpoint", "--n_best", "--weight_type", "--schedule"):
        assert option in page
