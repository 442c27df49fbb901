"""The built-in metrics of translations, all computed by sacrebleu.

| name | metric |
|---|---|
| `bleu` | BLEU: mixed case, exponential smoothing, tokens of 13a |
| `bleu_by_language` | BLEU with the tokens that sacrebleu uses for the target language: `zh`, `ja-mecab` and `ko-mecab` for Chinese, Japanese and Korean, else 13a |
| `bleu_zh`, `bleu_ja_mecab`, `bleu_ko_mecab`, `bleu_char`, `bleu_intl` | BLEU with these tokens for every language |
| `spbleu` | BLEU with the SentencePiece model of FLORES-200 |
| `chrf` | chrF2: character 6-grams, beta 2 |
| `chrf_pp` | chrF2++: also words and pairs of words |
| `ter` | translation edit rate, in percent of the words of the reference; lower is better |

Reference: Post, "A Call for Clarity in Reporting BLEU Scores", arXiv 1804.08771.
"""  # noqa: E501

import functools
import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any

from keras_mtl.errors import ConfigError
from keras_mtl.metrics.registry import MetricResult, register_text_metric

# The tokens that sacrebleu's own command uses by default for a target language.
_BY_LANGUAGE = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}
_OTHERS = "13a"
# Packages of a tokenizer, and the extra of sacrebleu that installs them.
_PACKAGES = {"ja-mecab": ("MeCab", "ja"), "ko-mecab": ("mecab_ko", "ko")}
_SPBLEU = "flores200"


def register_all() -> None:
    """Registers the metrics of this module."""
    percent = "points, 0 to 100"
    register_text_metric("bleu", title="BLEU", unit=percent)(_bleu(_OTHERS))
    register_text_metric("chrf", title="chrF", unit=percent)(_chrf(0))
    register_text_metric("chrf_pp", title="chrF++", unit=percent)(_chrf(2))
    register_text_metric("ter", title="TER", unit="% edits", higher_is_better=False)(_ter)
    register_text_metric(
        "bleu_by_language",
        title="BLEU by language",
        unit=percent,
        uses=("language",),
        check=lambda language: _check_tokenizer(_tokens_of(language)),
    )(_bleu_by_language)
    for tokens in ("zh", "ja-mecab", "ko-mecab", "char", "intl"):
        name = f"bleu_{tokens.replace('-', '_')}"
        _register_bleu(name, f"BLEU ({tokens})", tokens)
    _register_bleu("spbleu", "spBLEU", _SPBLEU)


def _register_bleu(name: str, title: str, tokens: str) -> None:
    register_text_metric(
        name, title=title, unit="points, 0 to 100", check=lambda language: _check_tokenizer(tokens)
    )(_bleu(tokens))


def _bleu(tokens: str) -> Callable[[Sequence[str], Sequence[str]], MetricResult]:
    """Returns BLEU with a tokenizer of sacrebleu."""

    def score(hypotheses: Sequence[str], references: Sequence[str]) -> MetricResult:
        return _corpus_score("bleu", tokens, hypotheses, references)

    return score


def _bleu_by_language(
    hypotheses: Sequence[str], references: Sequence[str], language: str = ""
) -> MetricResult:
    return _corpus_score("bleu", _tokens_of(language), hypotheses, references)


def _tokens_of(language: str) -> str:
    """Returns the name of the tokens for a language code such as `zh`, `zh_CN` or `zh-Hant`."""
    code = language.replace("_", "-").split("-")[0].lower()
    return _BY_LANGUAGE.get(code, _OTHERS)


def _chrf(word_order: int) -> Callable[[Sequence[str], Sequence[str]], MetricResult]:
    def score(hypotheses: Sequence[str], references: Sequence[str]) -> MetricResult:
        return _corpus_score("chrf", word_order, hypotheses, references)

    return score


def _ter(hypotheses: Sequence[str], references: Sequence[str]) -> MetricResult:
    return _corpus_score("ter", None, hypotheses, references)


def _corpus_score(
    kind: str, setting: Any, hypotheses: Sequence[str], references: Sequence[str]
) -> MetricResult:
    scorer = _scorer(kind, setting)
    result = scorer.corpus_score(hypotheses, [references])
    return MetricResult(float(result.score), str(scorer.get_signature()))


@functools.cache
def _scorer(kind: str, setting: Any) -> Any:
    # sacrebleu imports regex and lxml, which takes about 0.1 s that `--help` does not need.
    if kind == "bleu":
        from sacrebleu.metrics.bleu import BLEU

        _check_tokenizer(setting)
        return BLEU() if setting == _OTHERS else BLEU(tokenize=setting)
    if kind == "chrf":
        from sacrebleu.metrics.chrf import CHRF

        return CHRF(word_order=setting)
    from sacrebleu.metrics.ter import TER

    return TER()


def _check_tokenizer(tokens: str) -> None:
    """Checks that what a tokenizer of sacrebleu requires is installed.

    Raises:
        ConfigError: a package is missing, or the model of spBLEU, which sacrebleu would download.
    """
    if tokens in _PACKAGES:
        package, extra = _PACKAGES[tokens]
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"BLEU with the tokens {tokens} requires the package {package}. Install it with "
                f"`pip install 'sacrebleu[{extra}]'`, or use chrf"
            )
    if tokens == _SPBLEU:
        from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
        from sacrebleu.utils import SACREBLEU_DIR

        file = os.path.join(SACREBLEU_DIR, "models", os.path.basename(SPM_MODELS[_SPBLEU]["url"]))
        if not os.path.isfile(file):
            raise ConfigError(
                f"spBLEU requires the SentencePiece model of FLORES-200 in {file}. Download it "
                f"from {SPM_MODELS[_SPBLEU]['url']}, or use chrf"
            )
