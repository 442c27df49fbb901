"""Chooses the subword sampler that suits a vocabulary."""

from keras_mtl import errors
from keras_mtl.data.bpe_dropout import BpeDropout
from keras_mtl.data.sentencepiece_model import BPE, UNIGRAM, model_type
from keras_mtl.data.subword_sampling import SubwordSampler
from keras_mtl.data.unigram_sampling import UnigramSampler
from keras_mtl.data.vocabulary import Vocabulary


def make_sampler(vocabulary: Vocabulary, alpha: float, dropout: float) -> SubwordSampler:
    """Makes the sampler that suits a vocabulary.

    Args:
        vocabulary: the vocabulary.
        alpha: see `keras_mtl.data.unigram_sampling.UnigramSampler`.
        dropout: see `keras_mtl.data.bpe_dropout.BpeDropout`.

    Raises:
        ConfigError: the vocabulary is neither unigram nor BPE.
    """
    kind = model_type(vocabulary.tokenizer_bytes)
    if kind == UNIGRAM:
        return UnigramSampler(vocabulary, alpha)
    if kind == BPE:
        return BpeDropout(vocabulary, dropout)
    raise errors.ConfigError(
        "task.data.subword_sampling: the SentencePiece model of task.data.vocabulary.model_file "
        "segments into words or characters, so there is nothing to sample; use a unigram or BPE "
        "model, or turn subword_sampling off"
    )
