"""Certified screening: what a budget buys, and what it leaves uncertain.

`screen` runs a model; `hvp_patching.metrics.spending` has the statistics, and why they hold.
"""
