"""The embedded mini world: a closed world of facts, its benchmarks, and a model trained on it.

It stands in for a pretrained model and for the five domains of the paper, so that the pipeline
runs with no download. Nothing is imported here: `lexicon`, `styles`, `rules` and `world` need
only the standard library; `tokenizer`, `train_base` and `scores` need torch.
"""
