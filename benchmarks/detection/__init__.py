"""The detection benchmark: what the detectors of degeneration find, miss, and cry wolf at."""
