"""The matrix: every injected fault beside the suite that is to catch it, and healthy controls beside all."""
