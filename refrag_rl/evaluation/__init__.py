"""Comparison of selectors on the same windows: scores, intervals, table, files, figure."""
