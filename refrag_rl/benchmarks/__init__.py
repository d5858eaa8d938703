"""Measurements of ``python -m refrag_rl.benchmark``, one module each."""
