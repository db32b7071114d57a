"""The command line `hvp-patching`: scores of a model's components from a shell.

Modules are imported when a command needs them: help and `models` load no torch.
"""
