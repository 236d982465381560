"""One process on one device: claims trials, trains them and reports."""
