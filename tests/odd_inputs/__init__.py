"""Inputs as people and their tools make them, and what has to come out of each."""
