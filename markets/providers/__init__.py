"""Quotes of public aggregators: one interface, what each API looks like, and what is believed of its answers."""
