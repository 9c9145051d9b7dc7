"""The modules that families of networks are made of. These files import torch; the families' own do not."""
