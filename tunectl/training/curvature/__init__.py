"""The curvature of a trial's loss: products of its Hessian with vectors, and what is measured by them."""
