"""What a kv dtype gains: the shipped measurements of speed. No verdict rests on them."""
