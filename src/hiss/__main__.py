"""`python -m hiss` is `hiss`."""

from hiss.cli import main

if __name__ == "__main__":
    main()
