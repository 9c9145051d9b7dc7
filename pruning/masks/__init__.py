"""Masks: how they are chosen from scores, kept on a network, packed in files and compared."""
