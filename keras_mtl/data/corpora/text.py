"""Text of one language, for tasks with one side."""

from collections.abc import Iterator, Sequence

from keras_mtl import errors
from keras_mtl.data.corpora import base, files, opening


@base.register_reader
class TextReader(base.CorpusReader):
    """Reads text files in UTF-8, plain or compressed, with a sentence on each line.

    The text is both sides of its pairs. Only tasks with one side can use it.

    Args:
        source: code of the language.
        target: the same code.
        file: path of the file, a pattern, or a list of these.

    Raises:
        ConfigError: source and target are different languages.
        DataError: a file does not exist or is not text.
    """

    name = "text"
    path_options = ("file",)
    divided_by = "_files"

    def __init__(self, source: str, target: str, *, file: str | Sequence[str]) -> None:
        super().__init__(source, target)
        if source != target:
            raise errors.ConfigError(
                f"reader 'text' reads text of one language, but its task is from {source!r} to "
                f"{target!r}; use it for tasks of kind denoising or language_model, with an empty "
                "source, and reader 'parallel' for translation"
            )
        self._files = files.require_files(self.name, "file", file, language=target)

    def paths(self) -> list[str]:
        return files.file_paths(self._files)

    def selection(self) -> tuple[str, ...]:
        # The language selects the member of a zip archive with a file for each language.
        return tuple(name for name in self._files if opening.split_member(name)[1] is not None)

    def read(self) -> Iterator[base.Pair | base.BadLine]:
        """Yields pairs of equal sides, file by file."""
        for name in self._files:
            for number, line in enumerate(base.read_lines(name), 1):
                self.lines[name] = number
                yield line if isinstance(line, base.BadLine) else base.Pair(line, line, number)
