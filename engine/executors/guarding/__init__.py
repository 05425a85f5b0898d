"""Inside the guardian process: nothing here may import more than it must, start-up is cost."""
