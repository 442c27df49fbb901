"""`python -m keras_mtl` is `keras-mtl`."""

import sys

from keras_mtl.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
