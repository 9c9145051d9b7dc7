"""The modules of which families build their networks. These files import torch; the families' own do not."""
