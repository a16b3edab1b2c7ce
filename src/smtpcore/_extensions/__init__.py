"""ESMTP extensions: their definition, the built-in ones in a module each, and the table of them."""
