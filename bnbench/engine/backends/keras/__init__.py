"""Runs trained by TensorFlow/Keras instead of PyTorch. Imported only where a study says `framework: keras`."""
