"""Fetches Debian's translation indices and packages with apt, without touching the system's state.

Everything is below one directory: an own list of sources, own lists and an own cache. `apt-get`
verifies signatures and checksums.
"""

import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

MIRROR = "http://deb.debian.org/debian"
# Options of the line in the list of sources; see sources.list(5).
SOURCE_OPTIONS = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg"
# A larger number of names in one command may exceed the length of a command line.
_MOST_NAMES = 100


class Apt:
    """An apt with its own state.

    Args:
        directory: where the state and the packages are kept; it is created.
        suite: release of Debian.
        languages: languages of the translation indices, as Debian names them.
        mirror: URL of the archive.
    """

    def __init__(
        self, directory: Path, suite: str, languages: Sequence[str], mirror: str = MIRROR
    ) -> None:
        self._root = directory.absolute()
        self._config = self._root / "apt.conf"
        for part in ("lists/partial", "cache/archives/partial", "debs"):
            (self._root / part).mkdir(parents=True, exist_ok=True)
        (self._root / "status").touch()
        source = f"deb [{SOURCE_OPTIONS}] {mirror} {suite} main\n"
        (self._root / "sources.list").write_text(source, encoding="utf-8")
        quoted = " ".join(f'"{language}";' for language in languages)
        lines = [
            f'Dir::State "{self._root}";',
            f'Dir::State::lists "{self._root}/lists";',
            f'Dir::State::status "{self._root}/status";',
            f'Dir::Cache "{self._root}/cache";',
            f'Dir::Etc::sourcelist "{self._root}/sources.list";',
            'Dir::Etc::sourceparts "-";',
            # Images often set it to "none", to which a list would be appended.
            "#clear Acquire::Languages;",
            f"Acquire::Languages {{ {quoted} }};",
        ]
        self._config.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def update(self) -> None:
        """Fetches the indices of packages and of translated descriptions."""
        self._run("apt-get", "update")

    def translations(self) -> dict[str, Path]:
        """Returns the fetched indices of descriptions by language."""
        found = {}
        for path in sorted((self._root / "lists").glob("*_i18n_Translation-*")):
            name = path.name.split("_Translation-")[1]
            language = re.sub(r"\.(gz|lz4|xz|bz2)$", "", name).replace("%5f", "_")
            found[language] = path
        return found

    def read(self, path: Path) -> str:
        """Returns the text of an index, which apt may have compressed."""
        command = ["/usr/lib/apt/apt-helper", "-c", str(self._config), "cat-file", str(path)]
        return subprocess.run(command, check=True, capture_output=True).stdout.decode(
            "utf-8", "replace"
        )

    def names(self, pattern: str) -> list[str]:
        """Returns the packages whose name matches a regular expression."""
        lines = self._run("apt-cache", "search", "--names-only", pattern).splitlines()
        return sorted(line.split(" - ")[0] for line in lines)

    def existing(self, names: Iterable[str]) -> list[str]:
        """Returns the packages that the release has; others make `apt-get download` fail."""
        known = set(self._run("apt-cache", "pkgnames").split())
        return [name for name in names if name in known]

    def download(self, names: Sequence[str]) -> list[Path]:
        """Downloads packages that are not there yet, and returns their files."""
        debs = self._root / "debs"
        have = {path.name.split("_")[0] for path in debs.glob("*.deb")}
        missing = [name for name in names if name not in have]
        for start in range(0, len(missing), _MOST_NAMES):
            self._run("apt-get", "download", *missing[start : start + _MOST_NAMES], cwd=debs)
        wanted = set(names)
        return sorted(path for path in debs.glob("*.deb") if path.name.split("_")[0] in wanted)

    def _run(self, *command: str, cwd: Path | None = None) -> str:
        program, *arguments = command
        result = subprocess.run(
            [program, "-q", "-c", str(self._config), *arguments],
            cwd=cwd or self._root,
            env=os.environ | {"LC_ALL": "C"},
            capture_output=True,
            text=True,
        )
        if result.returncode:
            raise SystemExit(f"error: {' '.join(command[:4])} ...: {result.stderr.strip()}")
        return result.stdout


def unpack(packages: Iterable[Path], directory: Path) -> None:
    """Unpacks the documentation of packages into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for package in packages:
        # Without the parts that hold no text, which are most of a package.
        archive = subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE
        )
        subprocess.run(
            ["tar", "--extract", "--directory", str(directory), "--wildcards", "--no-same-owner",
             "./usr/share/man/*", "./usr/share/libreoffice/help/*"],
            stdin=archive.stdout,
            stderr=subprocess.DEVNULL,  # A package may have only one of them.
        )  # fmt: skip
        archive.wait()
