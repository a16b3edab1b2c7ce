"""ESMTP extensions: their definition, a module for each built-in extension, and the table of all."""
