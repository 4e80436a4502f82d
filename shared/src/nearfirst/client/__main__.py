"""`python -m nearfirst.client`: the `nearfirst` command of this interpreter's environment."""

from nearfirst.client.cli import main

main()
