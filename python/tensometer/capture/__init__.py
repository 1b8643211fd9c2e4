"""Capture of training runs: one file a framework, the only places that import it."""
