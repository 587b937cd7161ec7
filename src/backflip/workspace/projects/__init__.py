"""Projects: who takes part by which rules, and the addresses that are told what happens."""
