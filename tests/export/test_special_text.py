"""Text that looks like tags and special ids: the same ids and the same text wherever it is cut."""

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

from keras_mtl.data.cleaning import normalize
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.engine_file import TextSide
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.engine import open_model_file, write_model_file
from keras_mtl.export.translation_module import TranslationModule
from tests.decoding.tiny_model import make_vocabulary

TEXTS = [
    "<2fr>",
    "two <2uk> trees",
    "x<2ja>y",
    "</s> the <s>",
    "<pad><unk>",
    "<0x41> <0x0A>",
    "a\u2581b",
    "\u2581",
    "one red house",
]


def user_defined(vocabulary):
    """The vocabulary as older versions trained it: its tags are user-defined symbols."""
    pb2 = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    model = pb2.ModelProto.FromString(vocabulary.model_bytes)
    for language in vocabulary.languages:
        model.pieces[vocabulary.tag_id(language)].type = pb2.ModelProto.SentencePiece.USER_DEFINED
    return Vocabulary(model.SerializeToString())


@pytest.fixture(scope="module", params=["new", "old"])
def vocabulary(request):
    vocabulary = make_vocabulary()
    return vocabulary if request.param == "new" else user_defined(vocabulary)


class Echo(tf.Module):
    """A search whose translation is its source, without tag and end of sentence."""

    def __call__(self, source, decoder, lengths, alignments):
        scores = tf.zeros([tf.size(lengths), 1])
        return {"ids": source[:, None, 1:-1], "lengths": lengths[:, None], "scores": scores}


def test_python_engine_file_and_graph_cut_text_alike(vocabulary, tmp_path):
    want = vocabulary.encode_batch(TEXTS)
    assert min(map(min, want)) > max(map(vocabulary.tag_id, vocabulary.languages))

    about = {"task_names": ["en-fr"], "task_sources": ["en"], "task_targets": ["fr"]}
    about |= {"task_decoders": [0]}
    stored = np.frombuffer(vocabulary.tokenizer_bytes, np.uint8)
    for name, tensor in (
        ("now", stored),
        ("older", np.frombuffer(vocabulary.model_bytes, np.uint8)),  # As older versions wrote it.
    ):
        file = write_model_file(tmp_path / name, about, {"vocabulary": tensor})
        assert TextSide.read(open_model_file(file)).vocabulary.encode_batch(TEXTS) == want
    bare = sentencepiece.SentencePieceProcessor(model_proto=stored.tobytes())
    assert bare.encode(TEXTS) == want

    tasks = [TranslationTask("en-fr", "en", "fr")]
    module = TranslationModule(Echo(), vocabulary, tasks, BeamOptions(max_length=48), 64)
    result = module.translate(tf.constant(TEXTS), tf.constant("en-fr"))
    assert result["lengths"][:, 0].numpy().tolist() == [len(ids) for ids in want]
    texts = [text.decode() for text in result["translations"][:, 0].numpy()]
    decoded = vocabulary.decode_batch(want)
    assert texts == [" ".join(text.split()) for text in decoded]
    # U+2581 becomes a space; all else comes back as it was.
    assert texts == [normalize(text.replace("\u2581", " ")) for text in TEXTS]
