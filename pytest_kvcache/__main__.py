"""``python -m pytest_kvcache``: the command ``kvcache``."""

from __future__ import annotations

import sys

from pytest_kvcache.cli import main

sys.exit(main())
