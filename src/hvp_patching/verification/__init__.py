"""Whether what lies on disk is what was written: results, store entries, weights."""
