"""Measure what was exported: agreement with the reference, speed, memory; and choose."""
