"""Sentences of the product, in the language of the user: what they say is data, how they say it is in a catalogue."""
