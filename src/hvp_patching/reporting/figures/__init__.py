"""Figures: style and marks that notebooks share, and their files; no computation."""
