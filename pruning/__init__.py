"""Scores become masks, masks become sparse networks: pruning methods for any torch.nn.Module.

`prune` composes four ideas: a method that scores weights (`methods`), an allocation (`allocations`), a
schedule (`schedules`) and a selection (`selection`). `registry` lists them all; `prunable` chooses the weights.

On a model of torchvision, trained with the mask held:

>>> import torch, torchvision
>>> from open_prune import prune
>>> model = torchvision.models.resnet18(num_classes=10)
>>> x, y = torch.randn(40, 3, 32, 32), torch.arange(40) % 10
>>> mask = prune(model, "snip4", density=0.1, examples=(x, y))
>>> mask
Mask(21 tensors, 1117203 of 11172032 weights kept, density 0.1)
>>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
>>> keep = mask.attach(optimizer)
>>> torch.nn.functional.cross_entropy(model(x), y).backward()
>>> optimizer.step()
>>> int(model.layer1[0].conv1.weight[~mask["layer1.0.conv1.weight"]].count_nonzero())
0

On a small transformer, whose attention is pruned as well, in three iterations and by the same density in every layer:

>>> layer = torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
>>> model = torch.nn.Sequential(layer, torch.nn.Flatten(), torch.nn.Linear(16 * 12, 2))
>>> x, y = torch.randn(32, 12, 16), torch.arange(32) % 2
>>> mask = prune(model, "grasp8", density=0.25, iterations=3, allocation="uniform", examples=(x, y))
>>> mask.density_per_layer()["0.self_attn.in_proj_weight"]
0.25

More walks for an existing mask, and the overlap of two masks:

>>> model = torchvision.models.mobilenet_v3_small(num_classes=10)
>>> sparse = prune(model, "phew", density=0.01, input_shape=(3, 32, 32))
>>> denser = prune(model, "phew", density=0.02, input_shape=(3, 32, 32), mask=sparse)
>>> denser.overlap(sparse), denser.intersection(sparse) == sparse
(1.0, True)
"""
