"""`python -m spanline` is the command line."""

from spanline.cli.main import main

if __name__ == "__main__":
    main()
