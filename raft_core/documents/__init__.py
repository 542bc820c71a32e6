"""Documents become question-answer pairs: passages, questions on them, votes, and what is kept."""
