"""What the losses and gradient norms of single updates show: instability, spikes, and thresholds of stability."""
