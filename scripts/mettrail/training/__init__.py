"""Networks from cases: data sets, losses, trainers, validation."""
