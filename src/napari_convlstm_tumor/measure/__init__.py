"""Growth measured from masks: numpy and scipy only, pure functions on masks, spacing and days."""
