"""Plug-ins: loading a user's files, checking what they declare, keeping them, naming their lines in messages."""
