"""How good the results are: judges, distances between sets of recordings, reports."""
