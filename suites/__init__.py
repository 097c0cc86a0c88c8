"""The shipped regression suites: one file per class of symptom that quantized KV caches have shown."""
