"""The search space, the samplers and the plan of trials."""
