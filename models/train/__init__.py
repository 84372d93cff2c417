"""Quantisation-aware training of the networks in models/zoo."""
