"""How networks are made: cases, synthesis, priors, losses, trainers, cross-validation, validation."""
