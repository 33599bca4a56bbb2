"""From masks to lesions with a number for life: components measured, matched, compared."""
