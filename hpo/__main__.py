"""`python -m hpo`: the command line, also where the `hpo` script is not on the path."""

from hpo.cli import main

if __name__ == "__main__":
    main()
