"""Numbers that methods are made of: phi functions, weights of exponential integrators, tableaus."""
