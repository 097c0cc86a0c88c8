"""Evidence: what engines gave, read from recorded runs, and turned into figures and tables.

``recorded`` reads runs, ``shortened`` cuts their texts, ``rows`` has the figures of one model under one dtype
(``baseline_text`` and ``bootstrap`` those over all tokens), ``factors`` the 2x2 experiment, ``draws`` the
verdicts on prompts taken by chance; ``page`` and ``tables`` say it in Markdown.
"""
