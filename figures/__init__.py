"""Tables and figures of this kit, and the scripts that make them.

The tables (CSV) and the drawings (PNG) lie in this folder. Its rooms:

- `ledger`, `report`: how measured numbers are filed, and how tables are rendered from them.
- `compare`, `reproduce`, `trainings`: all methods side by side, and many trainings at a time.
- `experiments`: one script a paper, which trains, measures and judges the paper's claims.
- `bench`: speed and memory, beside other implementations.
- `plots`: the drawings.

A script is run as a module from the root of the checkout: `python -m figures.reproduce`.
"""

from pathlib import Path

FOLDER = Path(__file__).parent  # where the tables and the drawings lie
