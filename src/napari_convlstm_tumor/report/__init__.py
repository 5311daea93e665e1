"""What a person reads: rows per visit, as CSV, JSON and a short table."""
