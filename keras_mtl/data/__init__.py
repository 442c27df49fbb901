"""From corpora to batches: readers, cleaning, vocabulary, prepared store, batch plans, mixture."""
