"""The reference run: copies of its artefacts, their manifest, and how another run compares."""
