"""The lottery, and OpenLTH's controls of its levels."""
