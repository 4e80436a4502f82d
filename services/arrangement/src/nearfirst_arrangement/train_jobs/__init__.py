"""Train jobs: submitting, following, cancelling, and their receipts."""
