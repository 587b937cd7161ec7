"""What is left of somebody who asks to be forgotten."""
