"""One script a paper: trainings, measures, and the paper's claims."""
