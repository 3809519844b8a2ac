"""Schemes: the generators of rows that families of methods share. A method names a scheme, its weights and its facts."""
