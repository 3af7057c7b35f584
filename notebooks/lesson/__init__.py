"""What the notebooks share: checks, plots, and the plan of each mode."""
