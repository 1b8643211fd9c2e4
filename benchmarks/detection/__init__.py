"""Planted faults, their repaired twins, and healthy runs: what the default rules make of them."""
