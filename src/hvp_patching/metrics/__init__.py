"""Errors against the truth, their aggregates over prompts, and what the reliability score is worth.

Every aggregate that a table or figure shows is computed here, by a rule (`workflow/analyses.py`).
"""
