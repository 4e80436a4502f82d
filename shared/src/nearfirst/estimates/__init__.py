"""What a training job would take: counted from its settings, its model's files and its rows, without running it."""
