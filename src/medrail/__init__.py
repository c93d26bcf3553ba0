"""medrail: from a folder of raw medical images to a defended, deployed model. Not a medical device."""

__version__ = "0.1.0"
