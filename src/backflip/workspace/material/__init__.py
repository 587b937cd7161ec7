"""What is judged and learned from: prompts, samples, annotators, the journal and its snapshots."""
