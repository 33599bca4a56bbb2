"""Scores of segmentations against masks drawn by people."""
