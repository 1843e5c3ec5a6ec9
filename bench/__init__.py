"""Measurements, side by side; run by make bench."""
