"""A corpus of invented patients over every hard case of de-identification, with its answer key.

`make` builds it, `score` holds the output of a run against it. Both are also commands:
`python -m ct_assets_tests.deid.corpus OUT [--seed N]` and
`python -m ct_assets_tests.deid.corpus.score INPUT OUTPUT ANSWERS_CSV`.
"""
