"""Tables, plots and the page, drawn from results; computes nothing."""
