"""The demonstration: a scripted agent that plays the parts of the sample backlog's runs."""
