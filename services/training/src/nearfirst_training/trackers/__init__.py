"""A run's measurements, sent on to where a team looks at its experiments: TensorBoard, MLflow, Weights & Biases."""
