"""The paths that a GPU takes, on a device that is not the CPU and needs no driver."""
