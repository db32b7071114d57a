"""Measuring: one module per rule that runs a model, prompt by prompt; what scripts call."""
