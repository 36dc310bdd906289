"""Measuring on boards that are reached by SSH, or that have no network at all.

A small agent does on the board what `nanonet_edge.benchmarks.bench` does here, with the same code where
that needs no more than NumPy; what it tells goes home raw, as lines of JSON, and is judged here.
"""
