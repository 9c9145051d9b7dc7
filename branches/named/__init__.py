"""The branches of any run, a file each, and the presets of `oneshot`."""
