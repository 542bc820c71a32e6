"""Whether another wording of an answer still states the same facts."""
