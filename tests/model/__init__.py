"""An edge beside a model of a correct cache."""
