"""Networks and codecs used by more than one method."""
