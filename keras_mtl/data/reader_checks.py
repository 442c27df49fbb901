"""Checks of the readers that a configuration chooses, before any corpus is read."""

from keras_mtl.configuration.draft import Draft
from keras_mtl.data.corpora import create_reader
from keras_mtl.errors import ConfigError, DataError


def check_readers(draft: Draft) -> list[str]:
    """Makes the reader of each corpus, and adds to a draft what is wrong with its options.

    A reader that would download is not made.

    Args:
        draft: the configuration.

    Returns:
        A message for each corpus that is missing or damaged, without repetitions. Only preparing
        needs corpora, so a run whose data is prepared can do without them.
    """
    task = draft.config.task
    missing: dict[str, None] = {}
    for index, pair in enumerate(task.pairs):
        for field in ("corpora", "dev_corpora", "test_corpora"):
            path, listed = f"task.pairs[{index}].{field}", getattr(pair, field)
            if field == "corpora" and not listed:
                path, listed = "task.data.corpora", task.data.corpora
            for number, corpus in enumerate(listed):
                if not corpus.reader or corpus.options.get("download"):
                    continue
                try:
                    create_reader(corpus.reader, pair.source, pair.target, corpus.options)
                except DataError as error:
                    missing[str(error)] = None
                except ConfigError as error:
                    draft.component_error(f"{path}[{number}]", error, "reader", "options")
    return list(missing)
