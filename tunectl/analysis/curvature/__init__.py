"""What measured curvature says about a trial: where it is above the stability bound, and what the papers describe."""
