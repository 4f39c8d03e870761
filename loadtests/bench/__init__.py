"""`make bench`: one edge process against nginx and Varnish, on the same core, in one run."""
