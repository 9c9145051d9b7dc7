"""The lottery, and the branches of its levels."""
