"""The asking side of the codecs: rows of any form into requests, answers back into arrays."""
