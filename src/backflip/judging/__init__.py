"""A language model as judge: what it is asked, the way to it, and what its answer means."""
