"""What training curves show: learning, overfitting, saturation."""
