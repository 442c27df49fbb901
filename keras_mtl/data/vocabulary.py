"""The subword vocabulary that all tasks share: SentencePiece with language tags and byte fallback.

Sources may have a vocabulary of their own, which then has the language tags. A `Vocabulary` knows
the one of its sources, so that one object encodes and decodes pairs.

The first ids are fixed: 0 `<pad>`, 1 `<s>`, 2 `</s>`, 3 `<unk>`, then a tag `<2xx>` for
each target language, then 256 byte pieces, then pieces by score.

SentencePiece neither normalizes nor strips the text (cleaning has put it into Unicode NFC), so
encoded text decodes to itself. The exception is U+2581, SentencePiece's mark for a space, which
decodes to a space. Byte fallback spells characters without a piece, so no text becomes `<unk>`.

Special ids and tags are control symbols: no text encodes to them, so a text that contains
`<2de>` or `</s>` keeps it as text. Older versions trained tags as user-defined symbols, which
SentencePiece also finds in text. `control_symbols` turns them into control symbols when a
vocabulary is read.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Sequence

import numpy as np
import sentencepiece

from keras_mtl import errors
from keras_mtl.configuration.source_vocabulary import describe_sizes
from keras_mtl.data.sentencepiece_model import control_symbols, with_controls

PAD_ID, BOS_ID, EOS_ID, UNK_ID = 0, 1, 2, 3
SPECIAL_PIECES = ("<pad>", "<s>", "</s>", "<unk>")

_ENCODING_THREADS = 2
# Only fatal messages: errors are also raised, and training would log hundreds of lines.
sentencepiece.set_min_log_level(3)


def tag(language: str) -> str:
    """Returns the tag of a target language, such as `<2fr>`."""
    return f"<2{language}>"


class Vocabulary:
    """Converts text to ids and back.

    Args:
        model_bytes: a serialized SentencePiece model with this module's special ids.
        name: name in error messages, usually the path of the file.
        source: the vocabulary of the sources; None means this one.

    Attributes:
        source: the vocabulary of the sources; this object if both sides have the same one.
        size: number of ids.
        languages: languages with a tag, in the order of their ids.
        model_bytes: the serialized model, unchanged.
        tokenizer_bytes: the serialized model for tokenizers of text, in which tags are control
            symbols. The ids are the same as in `model_bytes`; the bytes differ only if an older
            version of keras_mtl has trained the model.
        hash: BLAKE2b-128 of `model_bytes` in hexadecimal; if sources have their own vocabulary, of
            the hashes of both.

    Raises:
        DataError: the model is damaged, or has other special ids.
    """

    pad_id, bos_id, eos_id, unk_id = PAD_ID, BOS_ID, EOS_ID, UNK_ID

    def __init__(
        self, model_bytes: bytes, name: str = "vocabulary", source: "Vocabulary | None" = None
    ) -> None:
        # An empty model loads without complaint and has no pieces.
        problem = "" if model_bytes else "the model is empty"
        if not problem:
            try:
                self._processor = sentencepiece.SentencePieceProcessor(model_proto=model_bytes)
            except (RuntimeError, ValueError) as error:
                problem = f"SentencePiece cannot read it ({error})"
        if problem:
            raise errors.DataError(
                f"{name}: damaged vocabulary: {problem}; copy the file again, or prepare the data "
                "again with `keras-mtl prepare --overwrite`"
            )
        self.model_bytes = model_bytes
        self.source: Vocabulary = self if source is None else source
        self.hash = hashlib.blake2b(model_bytes, digest_size=16).hexdigest()
        if source is not None:
            both = f"{source.hash} {self.hash}".encode()
            self.hash = hashlib.blake2b(both, digest_size=16).hexdigest()
        self.size: int = self._processor.vocab_size()
        first = tuple(self._processor.id_to_piece(i) for i in range(min(4, self.size)))
        if first != SPECIAL_PIECES:
            raise errors.DataError(
                f"{name}: ids 0 to 3 of the vocabulary are {', '.join(first)}; they must be "
                f"{', '.join(SPECIAL_PIECES)}; train it with `keras-mtl prepare`, or with "
                "--pad_id=0 --bos_id=1 --eos_id=2 --unk_id=3"
            )
        self._tags: dict[str, int] = {}
        for i in range(4, self.size):
            match = re.fullmatch(r"<2(.+)>", self._processor.id_to_piece(i))
            if not match:
                break
            self._tags[match[1]] = i
        self.languages = tuple(self._tags)
        self.tokenizer_bytes = model_bytes
        tags = [i for i in self._tags.values() if not self._processor.is_control(i)]
        if tags:
            self.tokenizer_bytes = control_symbols(model_bytes, tags)
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=self.tokenizer_bytes)
        self.is_byte = np.array([self._processor.is_byte(i) for i in range(self.size)])

    @classmethod
    def load(cls, path: str | os.PathLike[str], source: "Vocabulary | None" = None) -> "Vocabulary":
        """Reads a vocabulary from a file.

        Args:
            path: the file.
            source: the vocabulary of the sources; None means that of the file.

        Raises:
            DataError: the file is missing or damaged.
        """
        try:
            with open(path, "rb") as file:
                return cls(file.read(), os.fspath(path), source)
        except OSError as error:
            raise errors.DataError(
                f"{os.fspath(path)}: cannot read the vocabulary: {error.strerror}"
            ) from error

    @property
    def has_source(self) -> bool:
        """Whether sources have a vocabulary of their own."""
        return self.source is not self

    @property
    def sides(self) -> tuple["Vocabulary", "Vocabulary"]:
        """The vocabularies of sources and of targets."""
        return self.source, self

    @property
    def source_size(self) -> int | None:
        """Number of ids of the sources' own vocabulary; None if they have none."""
        return self.source.size if self.has_source else None

    def describe(self) -> str:
        """Returns its size in words, and that of the sources' own vocabulary."""
        return describe_sizes(self.size, self.source_size)

    @property
    def id_limit(self) -> int:
        """The smallest number that is larger than all ids of both sides."""
        return max(self.size, self.source.size)

    def tag_id(self, language: str) -> int:
        """Returns the id of a language's tag.

        Raises:
            DataError: the vocabulary has no tag for it.
        """
        if language not in self._tags:
            raise errors.DataError(
                f"the vocabulary has no tag for language {language!r}"
                f"{errors.nearest(language, self._tags)}"
            )
        return self._tags[language]

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without tag and end of sentence.

        Tags, special ids and byte pieces in the text are encoded as text.
        """
        return self._processor.encode(text)

    def encode_batch(
        self, texts: Sequence[str], num_threads: int = _ENCODING_THREADS
    ) -> list[list[int]]:
        """Returns the ids of each text; the result does not depend on `num_threads`."""
        return self._processor.encode(list(texts), num_threads=num_threads)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Returns the text of ids; padding, `<s>`, `</s>` and tags are skipped.

        Raises:
            InputError: an id is outside the vocabulary.
        """
        return self.decode_batch([ids])[0]

    def decode_batch(self, batch: Iterable[Sequence[int] | np.ndarray]) -> list[str]:
        """Returns the text of each sequence of ids; see `decode`."""
        rows = [np.asarray(ids, np.int64).tolist() for ids in batch]
        for ids in rows:
            if ids and not 0 <= min(ids) <= max(ids) < self.size:
                wrong = next(i for i in ids if not 0 <= i < self.size)
                raise errors.InputError(
                    f"id {wrong} is outside the vocabulary of {self.size} pieces"
                )
        return self._processor.decode(rows) if rows else []

    def piece(self, token: int) -> str:
        """Returns the piece of an id."""
        return self._processor.id_to_piece(token)

    def text_pieces(self) -> dict[str, tuple[int, float]]:
        """Returns id and score of each piece of text: no tags, special ids and byte pieces."""
        processor = self._processor
        return {
            processor.id_to_piece(i): (i, processor.get_score(i))
            for i in range(self.size)
            if not (
                processor.is_control(i)
                or processor.is_unknown(i)
                or processor.is_byte(i)
                or processor.is_unused(i)
            )
        }

    def byte_ids(self) -> dict[int, int]:
        """Returns the id of each byte from 0 to 255 that has a piece."""
        return {int(self.piece(i)[3:5], 16): i for i in np.flatnonzero(self.is_byte).tolist()}

    def with_languages(self, languages: Iterable[str]) -> "Vocabulary":
        """Returns a vocabulary that also has tags for other languages, after its own tags.

        Text is encoded to the same pieces. The ids of pieces after the tags are larger. If sources
        have their own vocabulary, it gets the tags.

        Args:
            languages: languages; those that have a tag already are ignored.
        """
        if self.has_source:
            return Vocabulary(self.model_bytes, source=self.source.with_languages(languages))
        new = sorted(set(languages).difference(self.languages))
        if not new:
            return self
        position = len(SPECIAL_PIECES) + len(self.languages)
        return Vocabulary(with_controls(self.model_bytes, position, [tag(each) for each in new]))
