"""The curvature of the loss: eigenvalues of its Hessian, preconditioned ones, and the critical learning rate."""
