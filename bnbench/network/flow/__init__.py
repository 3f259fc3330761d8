"""The flow of data through a network: recorded in a real pass, by torch.export, or by torch.fx."""
