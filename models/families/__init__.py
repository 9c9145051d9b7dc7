"""The families of networks, a file each."""
