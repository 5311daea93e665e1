"""Every visit on one grid, in one intensity scale, and the way back."""
