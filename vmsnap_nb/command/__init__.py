"""The command line: ``vmsnap-nb``, or ``python -m vmsnap_nb``."""
