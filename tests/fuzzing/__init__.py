"""Files, flags and texts from somebody else, made by mutation of valid ones, each from a seed.

`harness` runs inputs in forked processes with bounds and judges them, `mutations` and `formats` make them, and the
targets say what reads them.
"""
