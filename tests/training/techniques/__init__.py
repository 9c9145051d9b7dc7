"""Tests of techniques."""
