"""Scores become masks, masks become sparse networks: pruning methods for any torch.nn.Module.

Four ideas, composed by `pruning.prune.prune`: a scorer (one file a method), an allocation (`allocation`), a schedule
(`schedule`), a selection (`selection`). The methods are listed in `registry`.
"""
