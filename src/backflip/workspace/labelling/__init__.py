"""People's work: batches of questions, who is asked which, and what came of it."""
