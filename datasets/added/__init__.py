"""Datasets that users add: images, tables, texts, arrays, saved Hugging Face datasets."""
