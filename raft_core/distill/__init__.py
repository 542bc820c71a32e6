"""Stage `distill`: one trainer for every method, SFT and RAFT's adaptive distillation alike."""
