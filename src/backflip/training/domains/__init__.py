"""What differs between language models and agents: where their parts come from."""
