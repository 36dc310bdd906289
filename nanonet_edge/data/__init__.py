"""Datasets as they are distributed: their layouts, where to fetch them, and what may be wrong with them."""
