"""The datasets that come with the project, a file each."""
