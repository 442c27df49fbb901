"""The page of a sweep: many settings on the same tasks, with several seeds, sizes and sharings."""
