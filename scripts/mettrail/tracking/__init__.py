"""From masks to lesions with a persistent ID: components measured, matched, compared."""
