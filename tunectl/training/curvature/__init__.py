"""Curvature of the loss: eigenvalues of its Hessian, and the rates at which training is stable."""
