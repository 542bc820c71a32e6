"""Facts of texts: does another wording of an answer still state the same ones?"""
