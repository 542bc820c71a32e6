"""Whatever a text holds, what reads it ends in time and with no error but those it declares."""
