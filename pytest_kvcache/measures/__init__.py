"""Measures: pure functions on outputs and scores. No engine, no pytest, no policy.

One output: `find_degeneration`, `ngram_repetition`. Two outputs of one prompt: `ran_away`. Two scores
of one text: `compare_scores`. Two penalised sets: `repetition_excess`. A set of pairs: `mean_interval`,
`paired_difference_interval`; a share: `share_interval`.
"""
