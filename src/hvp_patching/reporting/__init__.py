"""Tables, plot style, provenance: presentation of what `metrics` computed, no computation."""
