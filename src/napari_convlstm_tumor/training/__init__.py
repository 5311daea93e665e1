"""Patients with known growth, training and evaluation. Nothing outside imports this room but the command line."""
