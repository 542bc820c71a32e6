"""What a run would take, before it: rows, tokens, arithmetic, memory, hours.

Nothing here loads weights, starts a stage or writes a file.
"""
