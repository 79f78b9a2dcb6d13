"""What measured curvature says about a trial: where it is above the stability bound, and the marks of the literature."""
