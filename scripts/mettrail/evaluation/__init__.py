"""Scores of segmentations against manual segmentations."""
