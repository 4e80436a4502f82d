"""`python -m nearfirst_training.node`: a machine of a node group, as its index says: the training worker or a follower.

It never ends with status 0. A pod of an indexed Job that does counts as complete, and nobody starts it again.
"""

import sys

from nearfirst.settings import Settings, get_settings

EXIT_ENDED = 75
"""EX_TEMPFAIL of sysexits.h: start me again."""


def main(settings: Settings, worker_arguments: list[str]) -> int:
    """Work until told to end. `worker_arguments` are those of `celery worker`, for the leader."""
    if settings.node_index > 0:
        from nearfirst_training.follower import follow

        follow(settings)
    else:
        from nearfirst_training.worker import app

        app.worker_main(["worker", *worker_arguments])
    return EXIT_ENDED


if __name__ == "__main__":
    sys.exit(main(get_settings(), sys.argv[1:]))
