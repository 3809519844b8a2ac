"""The evidence book: one case per paper, its claim measured here. `python -m evidence` runs it."""
