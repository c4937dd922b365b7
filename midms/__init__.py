"""Exemplar-based image translation by matching interleaved diffusion models (MIDMs, AAAI 2023)."""

__version__ = "0.1.0"
