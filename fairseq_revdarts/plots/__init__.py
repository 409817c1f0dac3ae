"""Pictures of searches and genotypes, drawn by matplotlib. Nothing else of the package needs it."""

import logging

for _library in ("matplotlib", "PIL", "fontTools"):  # fairseq may let every library log all it does
    logging.getLogger(_library).setLevel(logging.WARNING)
