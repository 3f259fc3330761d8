"""One run on several processes (torchrun): each batch is split over them, and all of them make the same step."""
