"""Directions that a model was not trained on, between languages that it knows."""

import json

import pytest

import keras_mtl
from keras_mtl.decoding.tasks import (
    TaskList,
    TranslationTask,
    find_task,
    is_zero_shot,
    scored_task,
)
from keras_mtl.errors import ConfigError, ExportError, InputError

TASKS = [
    TranslationTask("en-fr", "en", "fr", 0),
    TranslationTask("news", "de", "pt-BR", 1),
    TranslationTask("en-de", "en", "de", 2),
]
LINES = ["one red house", "two trees", "good morning"]


def test_a_direction_between_known_languages_is_found():
    assert find_task(TASKS, "en-fr") is TASKS[0]
    assert find_task(TASKS, "fr-pt-BR") == TranslationTask("fr-pt-BR", "fr", "pt-BR", 1)
    assert find_task(TASKS, "pt-BR-de") == TranslationTask("pt-BR-de", "pt-BR", "de", 2)
    assert is_zero_shot(TASKS, "fr-de")
    assert not is_zero_shot(TASKS, "news")
    # English is no target, Spanish is unknown, and a language is not translated into itself.
    for name in ("fr-en", "es-de", "de-de", "fr", "-de", "fr_de"):
        with pytest.raises(InputError, match=f"unknown task '{name}'"):
            find_task(TASKS, name)


def test_tasks_that_do_not_translate_are_refused():
    tasks = [
        *TASKS,
        TranslationTask("uk-lm", "en", "uk", 0, "language_model"),
        TranslationTask("es-noise", "en", "es", 0, "denoising"),
    ]
    with pytest.raises(
        InputError, match=r"'uk-lm' \(language_model\) predicts .* Use one of en-fr"
    ):
        find_task(tasks, "uk-lm")
    with pytest.raises(InputError, match=r"'es-noise' \(denoising\) restores noisy text"):
        find_task(tasks, "es-noise")
    # A decoder that has learned a language can be asked for it; a language model reads no source.
    assert find_task(tasks, "es-uk") == TranslationTask("es-uk", "es", "uk", 0)
    with pytest.raises(InputError, match="unknown task 'uk-fr'"):
        find_task(tasks, "uk-fr")
    assert scored_task(tasks, "uk-lm").kind == "language_model"
    assert TaskList(tuple(tasks), "").exported() == tuple(TASKS)
    with pytest.raises(ExportError, match="no task of the model translates"):
        TaskList(tuple(tasks[3:]), "").exported()


@pytest.fixture(scope="module")
def model_dir(copy_trained_model, tmp_path_factory):
    return copy_trained_model(tmp_path_factory.mktemp("zero") / "run")


def test_it_translates_and_is_scored(model_dir, tmp_path, capsys):
    translator = keras_mtl.load_translator(model_dir, backend="native")
    # The model sees only the tag of the target language.
    translations = translator.translate(LINES, "uk-fr")
    assert translations == translator.translate(LINES, "en-fr")
    pairs = "".join(f"{a}\t{b}\n" for a, b in zip(LINES, translations, strict=True))
    (tmp_path / "uk-fr.tsv").write_text(pairs)
    corpus = {"reader": "tsv", "options": {"file": "uk-fr.tsv"}, "tasks": ["uk-fr"]}
    (tmp_path / "corpora.yaml").write_text(json.dumps([corpus]))
    settings = keras_mtl.EvaluationSettings(
        corpora=str(tmp_path / "corpora.yaml"),
        backend="native",
        metrics=("bleu_by_language", "chrf", "ter", "neg_log_perplexity"),
    )
    scores = keras_mtl.evaluate(model_dir, settings, log=lambda line: None).results["uk-fr"].scores
    assert scores["ter"] == 0.0
    assert scores["chrf"] == pytest.approx(100.0)
    assert "bleu_by_language" in scores  # The sentences are too short for BLEU.
    assert scores["neg_log_perplexity"] < 0
    with pytest.raises(InputError, match=r"'uk-fr' was not trained.*--corpora"):
        keras_mtl.evaluate(model_dir, keras_mtl.EvaluationSettings(tasks=["uk-fr"]))
    corpus["tasks"] = ["uk-en"]
    (tmp_path / "corpora.yaml").write_text(json.dumps([corpus]))
    with pytest.raises(ConfigError, match=r"corpora.yaml\[0\].tasks: unknown task 'uk-en'"):
        keras_mtl.evaluate(model_dir, settings)
