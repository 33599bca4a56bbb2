"""A second, independent reading of the specification: random patients with known truth, brute force throughout."""
