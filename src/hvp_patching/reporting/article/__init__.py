"""The replication as a paper: its numbers as macros, its source, and LaTeX's run."""
