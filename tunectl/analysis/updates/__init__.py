"""What the losses and gradient norms of single updates show: instability and its edge."""
