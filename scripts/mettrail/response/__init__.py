"""What the lesions of a patient mean: the criteria, what readers decide, the tables of response and outcome."""
