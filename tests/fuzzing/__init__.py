"""Files, flags and texts from somebody else, made by mutation of valid ones: seeded, so that each input can be had again.

`harness` runs inputs in forked processes with bounds and judges them, `mutations` and `formats` make them, and the
targets say what reads them.
"""
