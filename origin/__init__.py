"""The origin: serves a media directory and live ingest, signs what it serves, and runs the tracker."""
